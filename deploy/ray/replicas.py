"""Replicas: where each of them can be reached beside the ingress, for scrapes.

Ray has no public call for it; this asks Serve's controller what Serve's HAProxy asks it.
"""

import ray
from ray import serve

_CONTROLLER = {"name": "SERVE_CONTROLLER_ACTOR", "namespace": "serve"}
_EVERYWHERE = {"0.0.0.0", "::"}


async def addresses() -> list[str]:
    """Return host and port of each replica of the application that this process is one of.

    The host is the one in ``http_options`` where that is a single address: replicas listen there alone, while
    Serve names their node. With Serve's own proxy, through which alone replicas are reached, there are none.
    """
    application = serve.get_replica_context().app_name
    controller = ray.get_actor(**_CONTROLLER)
    host = (await controller.get_http_config.remote()).host
    groups = await controller.get_target_groups.remote(application, from_proxy_manager=True)
    return [
        f"{target.ip if host in _EVERYWHERE else host}:{target.port}"
        for group in groups
        if group.app_name == application and group.protocol == "HTTP"
        for target in group.targets
    ]
