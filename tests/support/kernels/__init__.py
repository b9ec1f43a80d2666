"""Support: what tests of several packages share; no tests."""
