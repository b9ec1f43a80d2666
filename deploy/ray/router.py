"""Request router of Ray Serve's proxy: the requests of a task go to the same replica, unless it is hot.

With HAProxy in the place of that proxy, HAProxy does the same by itself (`start.sh`).
"""

import pickle
from collections import Counter
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from deploy.ray.affinity import choose, task_of


class TaskRouter(RequestRouter):
    """Routes by `affinity.choose`, by the requests that this proxy has sent and that are not answered."""

    def initialize_state(self) -> None:
        """Begin to count."""
        self._sent: Counter[str] = Counter()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replica that the request is for, then all of them, for when it takes no more.

        Requests of no task, such as rows of many tasks in one body, go where the fewest are.
        """
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
        task = _task(pending_request)
        if task is None or not candidate_replicas:
            return [candidate_replicas]
        by_id = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        chosen = choose(task, {name: self._sent[name] for name in by_id})
        return [[by_id[chosen]], candidate_replicas]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Count a request."""
        self._sent[replica_id.unique_id] += 1

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Count it no longer."""
        self._sent[replica_id.unique_id] -= 1
        if self._sent[replica_id.unique_id] <= 0:
            del self._sent[replica_id.unique_id]


def _task(pending: PendingRequest | None) -> str | None:
    """Read the task in the path of a request; the proxy of Serve hands on its scope in bytes of its own."""
    if pending is None or not pending.args:
        return None
    (request,) = pending.args[:1]
    if isinstance(request, bytes):
        request = pickle.loads(request)
    scope = getattr(request, "asgi_scope", None)
    return None if scope is None else task_of(scope["path"])
