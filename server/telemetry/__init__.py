"""Telemetry: metrics, statistics, logs and traces."""
