"""Runs a command that ends when its parent does, however the parent ends: ``guard.py <parent pid> command ...``.

Run by path, without site packages: it costs a few milliseconds. On Linux it becomes the command, and the kernel
sends SIGTERM on the parent's death; elsewhere it stays, and watches.
"""

import os
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        become(parent, command)
    else:
        watch(parent, command)


def become(parent: int, command: list[str]) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # It died before the line above.
        sys.exit(1)
    os.execvp(command[0], command)


def watch(parent: int, command: list[str]) -> None:
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    signal.signal(signal.SIGINT, lambda *_: child.send_signal(signal.SIGINT))
    while child.poll() is None:
        if os.getppid() != parent:
            child.terminate()
            break
        time.sleep(0.5)
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
