"""Django admin pages: pools and their peers, errors, parked rows, conflicts, device tokens."""

from p2p_replication.admin import conflict, device_token, parking, peer, pool, pool_error

__all__ = ["conflict", "device_token", "parking", "peer", "pool", "pool_error"]
