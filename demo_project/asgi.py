"""What Daphne serves: the pages, their live connection, and (on node A in use) the signaling server."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

# These import models, so Django has to be set up.
from demo_project.survey import routing as survey_routing  # noqa: E402
from p2p_replication import routing as p2p_routing  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": ASGIStaticFilesHandler(django_application),
        "websocket": AuthMiddlewareStack(
            URLRouter([*p2p_routing.websocket_urlpatterns, *survey_routing.websocket_urlpatterns])
        ),
    }
)
