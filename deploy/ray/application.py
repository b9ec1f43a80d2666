"""Ray Serve application: replicas of the whole server over one store.

`build` is what serve.yaml names. A replica is running once its service is ready, so that no request reaches
one that is not.
"""

import os
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.config import RequestRouterConfig

from deploy.ray.replicas import addresses
from deploy.ray.router import TaskRouter
from deploy.ray.scaling import ROWS
from server.host import build_app
from server.settings import Settings, settings_of


@serve.deployment
@serve.ingress()
class Server:
    """One server, in a process that is its own."""

    def __init__(self, settings: Settings) -> None:
        """Keep what the operator set."""
        self._settings = settings

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the application; Serve runs its lifespan, which begins when the service is ready."""
        app = build_app(_own(self._settings))
        self._service = app.state.service
        app.add_api_route("/metrics/targets", _targets, include_in_schema=False)
        return app

    def check_health(self) -> None:
        """Tell Serve whether to replace this process.

        Raises:
            RuntimeError: A part of it does not work.
        """
        if (reason := self._service.why_not_running()) is not None:
            raise RuntimeError(reason)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Report what `scaling.QueuedRows` scales by."""
        return {ROWS: self._service.engine.queue.waiting}


def build(settings: Mapping[str, Any]) -> serve.Application:
    """Build the application from the ``args`` of a configuration file of Serve.

    Args:
        settings: Settings of the server by name. The others come from the environment, in which this runs,
            and hold for all replicas.

    Raises:
        SettingsError: Some are wrong; the message has a line for each.
    """
    bound = settings_of(settings)
    deployment: Any = Server  # what the decorator made of it
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1":  # routes by itself, as start.sh tells it
        return deployment.bind(bound)
    router = RequestRouterConfig(request_router_class=TaskRouter)
    return deployment.options(request_router_config=router).bind(bound)


def _own(settings: Settings) -> Settings:
    """Give each replica of a machine a folder of its own for copies of bundles."""
    if settings.cache_dir is None:
        return settings
    folder = settings.cache_dir / f"replica-{serve.get_replica_context().rank.local_rank}"
    return settings.model_copy(update={"cache_dir": folder})


async def _targets() -> list[dict[str, list[str]]]:
    """List the replicas in the form of Prometheus' HTTP service discovery."""
    return [{"targets": await addresses()}]
