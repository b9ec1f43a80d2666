"""The mask store: numbered versions of tasks, in a folder or at an fsspec URL."""
