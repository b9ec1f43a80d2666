"""Tasks in service: which version of which task is served, and how it gets there."""
