"""Faults that others had, as tests. Those that another test shows anyway are in docs/guarantees.md."""

from __future__ import annotations

from tests.pool.conftest import hub, live
from tests.storage.conftest import replica_class

__all__ = ["hub", "live", "replica_class"]
