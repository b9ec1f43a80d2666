"""Benchmark cases, one module for each subcommand."""
