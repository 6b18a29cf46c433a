"""Settings of the benchmarks' nodes: those of the tests, with the benchmarks' models instead of theirs."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*(app for app in INSTALLED_APPS if not app.startswith("tests.")), "benchmarks.items"]
