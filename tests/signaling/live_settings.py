"""Settings of the server processes that the live tests start: their database and channel layer come from outside."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import CHANNEL_LAYERS, P2P_REPLICATION

if "P2P_TEST_REDIS" in os.environ:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [os.environ["P2P_TEST_REDIS"]]},
        }
    }
P2P_REPLICATION = P2P_REPLICATION | {
    "SIGNALING_LIMITS": {"check_interval": 0.5, "beat_interval": 0.5, "stale_after": 60}
}
