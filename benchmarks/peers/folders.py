"""Where others' packages are installed: in the build folder, once."""

from __future__ import annotations

from pathlib import Path

_BUILD = Path(__file__).resolve().parents[2] / "build" / "peers"


def folder_of(peer: str) -> Path:
    return _BUILD / peer
