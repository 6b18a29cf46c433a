"""Functions that declarations may name."""

from __future__ import annotations

from typing import Any


def only_colleagues(peer: Any) -> bool:
    return bool(peer)


class Rules:
    @staticmethod
    def check(peer: Any) -> bool:
        return bool(peer)


not_callable = 5
