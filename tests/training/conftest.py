"""Fixtures of the training package's tests."""

import logging

import pytest


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the package logs for its user."""
    caplog.set_level(logging.INFO, logger="training")
    return caplog
