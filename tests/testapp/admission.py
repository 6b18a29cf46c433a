"""Callables for ``is_peer_valid`` in the tests."""

from __future__ import annotations


def nobody(replica_id: str, *, name: str, user: str) -> bool:
    return False


def broken(replica_id: str, *, name: str, user: str) -> bool:
    raise LookupError("no rules today")
