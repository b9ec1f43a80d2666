"""Command line of a store: its parser, its commands, and what they print."""
