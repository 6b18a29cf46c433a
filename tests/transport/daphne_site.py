"""A site with nothing but the signaling server, behind the host check of a real project; for Daphne."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django

django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from p2p_replication.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter({"websocket": AllowedHostsOriginValidator(URLRouter(websocket_urlpatterns))})

if __name__ == "__main__":
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    from p2p_replication.signaling.tokens import create_token

    call_command("migrate", verbosity=0)
    print(create_token(get_user_model().objects.create_user("ana"), "test")[1])
