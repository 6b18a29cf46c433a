"""The suite's settings with another kind of automatic key, as a host project may have chosen it."""

from tests.settings import *  # noqa: F403

DEFAULT_AUTO_FIELD = "django.db.models.SmallAutoField"
