"""The file format of a mask: bits, coding, container, manifest, bundle."""
