"""An ASGI application with the doorbell's channel, for Django Channels' own runworker."""

from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from django.core.asgi import get_asgi_application

http = get_asgi_application()

from p2p_replication.worker.doorbell import DoorbellConsumer  # noqa: E402

application = ProtocolTypeRouter({"http": http, "channel": ChannelNameRouter({"p2p-sync": DoorbellConsumer.as_asgi()})})
