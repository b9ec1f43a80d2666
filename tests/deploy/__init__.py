"""Tests of what deploy/ ships: Prometheus rules, the Grafana dashboard, images, compose.yaml."""
