"""Settings of one node of the demo. Everything that tells the nodes apart comes from the environment.

``python -m demo_project`` sets these for every process it starts; by hand, each of them may be left out:

* ``P2P_DEMO_NODE``: ``a`` or ``b``
* ``P2P_DEMO_FOLDER``: where the nodes' databases lie, ``<folder>/a.sqlite3`` and ``<folder>/b.sqlite3``
* ``P2P_DEMO_PORT``: this node's port; ``P2P_DEMO_OTHER_URL``: the other node's address
* ``P2P_DEMO_SIGNALING_URL`` and ``P2P_DEMO_TOKEN``: where and in whose name the worker joins
* ``P2P_DEMO_SECRET_KEY``: signs this node's sessions and sign-in links
* ``P2P_DEMO_SABOTAGE``: breaks a part on purpose, for ``--check --sabotage`` (see ``demo_project/sabotage.py``)
"""

from __future__ import annotations

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

NODE = os.environ.get("P2P_DEMO_NODE", "a")
if NODE not in ("a", "b"):
    raise ImproperlyConfigured(f"P2P_DEMO_NODE={NODE!r}: the demo's nodes are 'a' and 'b'.")
BASE_DIR = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("P2P_DEMO_FOLDER") or BASE_DIR / ".demo")
# SQLite makes files, not folders.
FOLDER.mkdir(parents=True, exist_ok=True)
#: Made and removed by a page: while it is there, the launcher keeps the node's worker stopped.
OUTAGE_FILE = FOLDER / f"{NODE}.offline"
PORT = int(os.environ.get("P2P_DEMO_PORT") or {"a": 8001, "b": 8002}[NODE])

#: What the pages' header shows.
DEMO_NODE_NAME = f"Node {NODE.upper()}"
DEMO_OTHER_NAME = f"Node {'B' if NODE == 'a' else 'A'}"
DEMO_OTHER_URL = os.environ.get("P2P_DEMO_OTHER_URL") or f"http://127.0.0.1:{8002 if NODE == 'a' else 8001}/"
#: Whom a sign-in link signs in.
DEMO_USER = "surveyor"
#: How often an open page's process looks for commits of other processes, in seconds.
DEMO_COMMIT_POLL = 0.030

SECRET_KEY = os.environ.get("P2P_DEMO_SECRET_KEY") or "the demo's own key; a real project keeps a secret one"
DEBUG = os.environ.get("P2P_DEMO_DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "demo_project.urls"
ASGI_APPLICATION = "demo_project.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LOGIN_URL = "enter"
STATIC_URL = "/static/"

# Cookies don't separate ports: without names of their own the two nodes would sign each other out.
SESSION_COOKIE_NAME = f"demo_{NODE}_session"
CSRF_COOKIE_NAME = f"demo_{NODE}_csrf"

INSTALLED_APPS = [
    "daphne",
    "channels",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "p2p_replication",
    "demo_project.survey",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "demo_project.survey.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
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
                "demo_project.survey.context.node",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / f"{NODE}.sqlite3",
        "OPTIONS": {
            # Several processes write: take the lock at BEGIN, wait for it, and let readers read meanwhile.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": ["console"], "level": "INFO", "propagate": False},
    },
}

P2P_REPLICATION = {
    "NAME": DEMO_NODE_NAME,
    "ACCOUNTS": {
        "default": {
            "SIGNALING_URL": os.environ.get("P2P_DEMO_SIGNALING_URL") or "ws://127.0.0.1:8001/p2p/signaling/",
            "TOKEN": os.environ.get("P2P_DEMO_TOKEN", ""),
        }
    },
}
if os.environ.get("P2P_DEMO_SABOTAGE") == "datachannel":
    P2P_REPLICATION["CONNECTION_HANDLERS"] = {"default": {"BACKEND": "demo_project.sabotage.SwallowingHandler"}}
