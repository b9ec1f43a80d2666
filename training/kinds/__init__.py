"""Kinds of task in training: columns, loss and metrics of each."""
