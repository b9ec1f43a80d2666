"""Threads: how many compute, and how they are kept alive."""
