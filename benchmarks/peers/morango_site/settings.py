"""Settings of a small project that replicates one model with Morango.

From the environment: ``BENCH_DATABASE``, the SQLite file; ``BENCH_DATASET``, 32 hex digits, the partition of all rows.
"""

import os

SECRET_KEY = "benchmark"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "mptt",
    "morango",
    "bench_items",
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "urls"
AUTH_USER_MODEL = "bench_items.User"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("BENCH_DATABASE", "unset.sqlite3"),
        "OPTIONS": {"timeout": 60},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
BENCH_DATASET = os.environ.get("BENCH_DATASET", "0" * 32)
