"""A new Django project that uses the installed package. Run by ``wheel.py``, with nothing of the work tree in reach.

It follows the README's quick start: settings, a model, ``sync_p2p()``, the ASGI application, the commands.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import os
import subprocess
import sys
from pathlib import Path

HERE = Path.cwd()

SETTINGS = """
from pathlib import Path

SECRET_KEY = "of a project that lives for a minute"
USE_TZ = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "shop.urls"
ASGI_APPLICATION = "shop.asgi.application"
STATIC_URL = "/static/"
STATIC_ROOT = Path(__file__).parent / "collected"
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
    "shop",
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
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(__file__).parent / "shop.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
P2P_REPLICATION = {"ACCOUNTS": {"default": {"SIGNALING_URL": "ws://127.0.0.1:1/p2p/signaling/", "TOKEN": ""}}}
"""

MODELS = """
from django.db import models

from p2p_replication.models import ReplicatedModel


class Note(ReplicatedModel):
    title = models.CharField(max_length=200)
"""

URLS = """
from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
"""

ASGI = """
import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
http = get_asgi_application()

from p2p_replication.routing import websocket_urlpatterns

application = ProtocolTypeRouter({"http": http, "websocket": URLRouter(websocket_urlpatterns)})
"""

FILES = {"__init__.py": "", "settings.py": SETTINGS, "models.py": MODELS, "urls.py": URLS, "asgi.py": ASGI}


def main() -> None:
    project = HERE / "shop"
    project.mkdir()
    for name, text in FILES.items():
        (project / name).write_text(text)
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    os.environ["PYTHONPATH"] = str(HERE)
    sys.path.insert(0, str(HERE))
    package_is_the_installed_one()
    manage("makemigrations", "shop")
    assert "p2p_replication.models.uuid7" in (project / "migrations" / "0001_initial.py").read_text()
    manage("migrate")
    manage("check", "--fail-level", "ERROR")
    manage("makemigrations", "--check", "--dry-run")
    manage("collectstatic", "--no-input")
    for name in data_files("static"):
        assert (project / "collected" / name).exists(), f"{name} was not collected"
    use_it()
    print("The wheel works in a project of its own.")


def manage(*arguments: str) -> None:
    print("manage.py", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "django", *arguments], check=True)


def package_is_the_installed_one() -> None:
    import p2p_replication

    assert p2p_replication.__file__ is not None
    assert Path(p2p_replication.__file__).is_relative_to(sys.prefix), p2p_replication.__file__
    assert importlib.resources.files(p2p_replication).joinpath("py.typed").is_file()


def data_files(folder: str) -> list[str]:
    """Return the package's files in ``static`` or ``templates``, as Django names them."""
    import p2p_replication

    root = Path(p2p_replication.__path__[0]) / folder
    return [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]


def use_it() -> None:
    import django

    django.setup()

    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.template.loader import get_template
    from shop.asgi import application
    from shop.models import Note

    from p2p_replication.exceptions import WorkerNotRunning
    from p2p_replication.models import Pool
    from p2p_replication.models.ledger import ChangeLogEntry

    for name in data_files("templates"):
        get_template(name)
    note = Note.objects.create(title="first")
    Note.objects.update(title="second")
    assert note.pk.version == 7
    assert ChangeLogEntry.objects.count() == 2, "the triggers did not capture the writes"

    pool = Note.objects.sync_p2p(topic="the wheel's own topic")
    assert Pool.objects.count() == 1 and not pool.peers.exists()
    try:
        pool.wait_in_sync(timeout=1)
    except WorkerNotRunning as error:
        assert "runp2psync" in str(error)
    else:
        raise AssertionError("nothing said that no worker runs")

    get_user_model().objects.create_user("ana")
    call_command("p2p", "token", "create", "ana", "--name", "laptop")
    asyncio.run(signaling_refuses_a_stranger(application))


async def signaling_refuses_a_stranger(application: object) -> None:
    from channels.testing import WebsocketCommunicator

    communicator = WebsocketCommunicator(application, "/p2p/signaling/")
    connected, _ = await communicator.connect(timeout=10)
    assert connected
    message = await communicator.receive_json_from(timeout=10)
    assert message["type"] == "error" and message["code"] == 4401, message
    await communicator.disconnect()


if __name__ == "__main__":
    main()
