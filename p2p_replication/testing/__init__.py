"""For a project's own tests: several replicas in one test, with no worker and no network."""

from p2p_replication.testing.clock import Clock
from p2p_replication.testing.local_pool import LocalPool
from p2p_replication.testing.merge_laws import assert_merge_is_join

__all__ = ["Clock", "LocalPool", "assert_merge_is_join"]
