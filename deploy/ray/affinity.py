"""Affinity: which replica a request goes to, so that each task is computed by few of them.

Rendezvous hashing with bounded loads: each task has an order of its own of all replicas, in which those that
come or go change nothing between the others. It takes the first replica that is not hot.
"""

import re
from collections.abc import Mapping
from hashlib import blake2b
from math import ceil

HOT = 1.5
"""A replica is hot with this many times the requests that it would have if all had as many."""

_TASK = re.compile(r"/(?:predict|hf|tasks|v2/models)/([^/]+)")


def task_of(path: str) -> str | None:
    """Return the task that a path names; None where it names none."""
    found = _TASK.match(path)
    return found and found[1]


def choose(task: str, requests: Mapping[str, int], hot: float = HOT) -> str:
    """Choose the replica for one more request.

    Args:
        task: The request's task.
        requests: How many requests each replica is answering; at least one replica.
        hot: See `HOT`; at least 1.

    Returns:
        The task's first replica with room below the bound.
    """
    bound = ceil(hot * (sum(requests.values()) + 1) / len(requests))
    return next(replica for replica in _order(task, requests) if requests[replica] < bound)


def _order(task: str, replicas: Mapping[str, int]) -> list[str]:
    def weight(replica: str) -> bytes:
        return blake2b(f"{task}/{replica}".encode(), digest_size=8).digest()

    return sorted(replicas, key=weight)
