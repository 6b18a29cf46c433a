"""For a project's own tests: several replicas in one test, with no worker and no network."""

from p2p_replication.testing.clock import Clock
from p2p_replication.testing.local_pool import LocalPool

__all__ = ["Clock", "LocalPool"]
