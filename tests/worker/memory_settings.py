"""The suite's settings with an application that runworker can serve."""

from tests.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.worker.asgi.application"
