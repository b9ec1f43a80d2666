"""Peers: what ours is measured against, and ours as the benchmarks call it."""
