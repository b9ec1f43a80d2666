"""Measure: candidates that take turns, and concurrent clients."""
