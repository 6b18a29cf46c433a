"""Running replicas for the commands that ask a worker."""

from tests.pool.conftest import hub, live

__all__ = ["hub", "live"]
