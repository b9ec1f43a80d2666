"""Command line of learning: options, exit codes, progress."""
