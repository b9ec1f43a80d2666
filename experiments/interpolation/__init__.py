"""Interpolation: lines and curves in the space of weights between two models of one task."""
