"""What the paper says: its numbers as data, and its claims as rules that a program can check."""
