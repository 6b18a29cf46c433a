from __future__ import annotations

from tests.pool.conftest import hub, live

__all__ = ["hub", "live"]
