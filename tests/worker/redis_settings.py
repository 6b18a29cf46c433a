"""The same with a channel layer on Redis."""

import os

from tests.worker.memory_settings import *  # noqa: F403

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ["P2P_TEST_REDIS_URL"]]},
    }
}
