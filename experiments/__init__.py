"""One command for each table and figure of the paper: `python -m experiments NAME [--quick]`."""
