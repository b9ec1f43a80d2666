"""Connections: from sockets to requests, with limits of time, size and number for each step."""

from server.connections.limits import ConnectionLimits, most_connections
from server.connections.protocol import Connection

__all__ = ["Connection", "ConnectionLimits", "most_connections"]
