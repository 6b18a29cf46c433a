"""Settings of the test suite: SQLite files as in a real project, in-memory channel layer."""

import json
import os
import tempfile

SECRET_KEY = "tests"
USE_TZ = True
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
INSTALLED_APPS = [
    "daphne",
    "channels",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "p2p_replication",
    "tests.testapp",
    "tests.office",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("P2P_TEST_DB", os.path.join(tempfile.gettempdir(), f"p2p-tests-{os.getpid()}.sqlite3")),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
if "P2P_TEST_DATABASE" in os.environ:
    DATABASES["default"] = json.loads(os.environ["P2P_TEST_DATABASE"])
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
P2P_REPLICATION = {
    "ACCOUNTS": {
        "default": {
            "SIGNALING_URL": os.environ.get("P2P_TEST_SIGNALING_URL", "ws://127.0.0.1:8000/p2p/signaling/"),
            "TOKEN": os.environ.get("P2P_TEST_TOKEN"),
        }
    },
    **json.loads(os.environ.get("P2P_TEST_OPTIONS", "{}")),
}
