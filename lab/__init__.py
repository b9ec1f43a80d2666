"""Lab: random models, machine facts and tables for benchmarks, experiments, demo and tests; not installed."""
