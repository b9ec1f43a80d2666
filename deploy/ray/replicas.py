"""Replicas: where each of them can be reached beside the ingress, for scrapes.

Ray has no public call for it; this asks Serve's controller what Serve's HAProxy asks it.
"""

import ray
from ray import serve

_CONTROLLER = {"name": "SERVE_CONTROLLER_ACTOR", "namespace": "serve"}


async def addresses() -> list[str]:
    """Return host and port of each replica of the application that this process is one of.

    With Serve's own proxy, through which alone replicas are reached, there are none.
    """
    application = serve.get_replica_context().app_name
    controller = ray.get_actor(**_CONTROLLER)
    groups = await controller.get_target_groups.remote(application, from_proxy_manager=True)
    return [
        f"{target.ip}:{target.port}"
        for group in groups
        if group.app_name == application and group.protocol == "HTTP"
        for target in group.targets
    ]
