"""What a person would do about parked rows: bring back missing parents, and rows whose deletes wait for others."""

from __future__ import annotations

import uuid
from typing import Any

from tests.storage.conftest import StorageReplica
from tests.storage.statements import MODELS
from tests.testapp.models import Ruled, Shelf, Team

#: The field of each model that refers to a parent.
PARENTS = {"testapp.Book": "shelf", "testapp.Player": "team", "testapp.Team": "captain"}
PARENT_MODELS = {"testapp.Book": "testapp.Shelf", "testapp.Player": "testapp.Team", "testapp.Team": "testapp.Player"}


def revive(replica: StorageReplica, label: str, parent: bytes, key: bytes) -> None:
    """Bring a missing parent back; a captain who is gone leaves his team instead."""
    using, pk = replica.alias, uuid.UUID(bytes=parent)
    if label == "testapp.Book":
        Shelf.objects.using(using).get_or_create(pk=pk, defaults={"name": str(pk)})
    elif label == "testapp.Player":
        Team.objects.using(using).get_or_create(pk=pk, defaults={"name": "revived"})
    else:
        Team.objects.using(using).update_or_create(pk=uuid.UUID(bytes=key), defaults={"name": "", "captain": None})


def set_apart(replica: StorageReplica, label: str, key: Any) -> None:
    """Revive a row whose delete waits for others, by an edit; with values that no other has."""
    if label == "testapp.Ruled":
        Ruled.objects.using(replica.alias).filter(pk=uuid.UUID(bytes=key)).update(code=None, left=None)
    elif label == "testapp.Shelf":
        Shelf.objects.using(replica.alias).filter(pk=uuid.UUID(bytes=key)).update(name=str(uuid.UUID(bytes=key)))
    elif label in ("testapp.Team", "testapp.Player"):
        MODELS[label].objects.using(replica.alias).filter(pk=uuid.UUID(bytes=key)).update(name="apart")
