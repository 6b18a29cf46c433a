"""Django admin pages: pools and their peers, errors, parked rows, device tokens."""

from p2p_replication.admin import device_token, parking, peer, pool, pool_error

__all__ = ["device_token", "parking", "peer", "pool", "pool_error"]
