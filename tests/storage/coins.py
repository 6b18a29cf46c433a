"""Rows of the simplest model, written and posted at once."""

from __future__ import annotations

from typing import Any

from tests.storage.conftest import StorageReplica
from tests.testapp.models import Coin

COIN = ("testapp.Coin",)


def coin(replica: StorageReplica, code: str, **values: Any) -> None:
    Coin.objects.using(replica.alias).create(code=code, **values)
    replica.post()


def edit(replica: StorageReplica, code: str, **values: Any) -> None:
    Coin.objects.using(replica.alias).filter(code=code).update(**values)
    replica.post()
