"""Residency: many more tasks than fit into memory, and many that do.

A server holds the masks of some of its tasks. Clients ask tasks of a Zipf distribution for a while, then
every task once. Another server holds all of its tasks, and is asked all of them and a few in turn.
"""

from benchmarks.cases.residency.run import add_arguments, main

__all__ = ["add_arguments", "main"]
