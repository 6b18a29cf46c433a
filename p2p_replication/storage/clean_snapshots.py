"""Reading rows with their versions while the application writes: a value never travels under the version before it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError

from p2p_replication.storage.posting import post, post_all
from p2p_replication.storage.replica_database import ReplicaDatabase

T = TypeVar("T")

#: How often a snapshot is taken anew because the application wrote one of its rows meanwhile.
TRIES = 3


class Dirty(Exception):
    """A row of the snapshot has a write that is not posted yet."""


def read_clean(database: ReplicaDatabase, read: Callable[[bool], T]) -> T:
    """Let ``read`` read in a snapshot before which everything was posted: each of the application's transactions is in
    it as a whole or not at all.

    It raises Dirty where a row was written once more in between, and is called anew. If that goes on, it reads in a
    transaction that posts: there nothing can come in between, but what is too much to be posted at once. So it is
    called with True at last, and has to do with what there is.
    """
    for _ in range(TRIES):
        post_all(database)
        with contextlib.suppress(Dirty), database.snapshot():
            return read(False)
    try:
        with database.writing(frozen=True):
            post(database)
            return read(True)
    except OperationalError as error:
        if not database.vendor.is_busy(error):
            raise
    with database.snapshot():
        return read(True)
