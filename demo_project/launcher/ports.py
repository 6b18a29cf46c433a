"""Finding ports, and saying plainly which one is taken."""

from __future__ import annotations

import socket

from demo_project.launcher.errors import DemoError

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def require_free(*ports: int) -> None:
    """Raise DemoError if a port is out of range or somebody listens on it."""
    for port in ports:
        if not 1 <= port <= 65_535:
            raise DemoError(f"--port {port}: ports go from 1 to 65534, and the next one is used as well.")
        with socket.socket() as probe:
            # As the server does it: connections of an earlier run that linger are no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except PermissionError as error:
                raise DemoError(f"Port {port} is not open to you ({error}). Choose others: --port 18001") from error
            except OSError as error:
                raise DemoError(
                    f"Port {port} is busy: another program listens on {HOST}:{port}. "
                    f"Stop it, or choose other ports: make demo ARGS='--port {suggestion(port)}'"
                ) from error


def suggestion(port: int) -> int:
    """A pair of ports well away from the busy one."""
    return port + 100 if port + 101 <= 65_535 else 8101
