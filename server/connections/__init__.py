"""Connections: from sockets to requests, with limits of time, size and number for each step."""

from server.connections.limits import ConnectionLimits, connections_by_files
from server.connections.protocol import Connection

__all__ = ["Connection", "ConnectionLimits", "connections_by_files"]
