"""Environment variables of the server: those that are none of ours, and those that are misspelt."""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

PREFIX = "MASKSERVE_"

# Kubernetes and Docker set these for a service that is called maskserve, or maskserve-and-more.
_LINK_NAME = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")


def service_links(environment: Mapping[str, str], settings: Collection[str]) -> list[str]:
    """Return the variables that an orchestrator set for a service called as this product is.

    Args:
        environment: The variables of the process.
        settings: Names of all settings; one that is set to such a value, as ``MASKSERVE_PORT`` is to
            ``tcp://10.0.0.12:80``, is a link too.
    """
    return [
        name
        for name, value in environment.items()
        if _LINK_NAME.fullmatch(name) and (_setting(name) not in settings or _LINK_VALUE.match(value))
    ]


def unknown_variables(environment: Iterable[str], settings: Collection[str]) -> list[str]:
    """Return a sentence for each variable with our prefix that sets nothing.

    Args:
        environment: Names of variables, without service links.
        settings: Names of all settings.
    """
    return [
        f"{name} is no setting{_hint(_setting(name), settings)}"
        for name in environment
        if name.upper().startswith(PREFIX) and _setting(name) not in settings
    ]


def _setting(variable: str) -> str:
    return variable[len(PREFIX) :].lower()


def _hint(name: str, settings: Collection[str]) -> str:
    close = get_close_matches(name, settings, n=1)
    return f"; do you mean {PREFIX}{close[0].upper()}?" if close else "; --help lists them"
