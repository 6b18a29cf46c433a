"""What bounds a first sync whatever its software: the data channel, loopback TCP."""

from __future__ import annotations

import socket
import threading
import time

from benchmarks import raw_channel
from benchmarks.figures import Figure

CHANNEL_MEGABYTES = 16
TCP_MEGABYTES = 512


def loopback_tcp(megabytes: int) -> float:
    """Return MB a second of one TCP connection over the loopback interface."""
    listener = socket.create_server(("127.0.0.1", 0))

    def send() -> None:
        payload = bytes(65_536)
        with socket.create_connection(listener.getsockname()) as connection:
            for _ in range(megabytes * 16):
                connection.sendall(payload)

    sender = threading.Thread(target=send)
    began = time.perf_counter()
    sender.start()
    connection, _ = listener.accept()
    with connection, listener:
        while connection.recv(1 << 20):
            pass
    sender.join()
    return megabytes / (time.perf_counter() - began)


def run(runs: int) -> list[Figure]:
    channel = [raw_channel.measure(CHANNEL_MEGABYTES) for _ in range(runs)]
    return [
        Figure("limits", "raw aiortc data channel", "MB/s", [one.speed for one in channel]),
        Figure("limits", "its sender's CPU", "ms/MB", [one.cpu_sender * 1000 for one in channel]),
        Figure("limits", "its receiver's CPU", "ms/MB", [one.cpu_receiver * 1000 for one in channel]),
        Figure("limits", "loopback TCP", "MB/s", [loopback_tcp(TCP_MEGABYTES) for _ in range(runs)]),
    ]
