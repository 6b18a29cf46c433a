"""Settings as a project has them; ``databases.json`` is written by the test that makes the project."""

import json
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
SECRET_KEY = "of a project that lives for a minute, and long enough for check --deploy: Yk3j9-Zq0pW8r5Ht2nBv7Lx4"
USE_TZ = True
ALLOWED_HOSTS = ["testserver", "localhost"]
INSTALLED_APPS = [
    "daphne",
    "channels",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "people.apps.PeopleConfig",
    "catalog",
    "legacy",
    "p2p_replication",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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
ROOT_URLCONF = "host.urls"
STATIC_URL = "/static/"
DATABASES = json.loads((HERE / "databases.json").read_text())
DATABASE_ROUTERS = json.loads(os.environ.get("HOST_ROUTERS", "[]"))
AUTH_USER_MODEL = "folk.Person"
CATALOG_PRODUCT_MODEL = "catalog.SpecialProduct"
# Not the one of p2p_replication: its tables must not follow it.
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# What the project knows of: groups and permissions of its users stay local, and so do tags.
SILENCED_SYSTEM_CHECKS = ["p2p_replication.I010"]
# A flush makes the rows of these anew, with other numbers: serialized_rollback could not load them (Django #23727).
TEST_NON_SERIALIZED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = bool(os.environ.get("HOST_DEPLOYED"))
SECURE_HSTS_SECONDS = 3600
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
P2P_REPLICATION = {"ACCOUNTS": {"default": {"SIGNALING_URL": "ws://127.0.0.1:1/p2p/signaling/", "TOKEN": ""}}}
