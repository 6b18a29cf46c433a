"""The app's WebSocket routes, for the project's asgi.py: ``URLRouter(websocket_urlpatterns)``."""

from __future__ import annotations

from django.urls import URLPattern, path

from p2p_replication.signaling.consumer import SignalingConsumer

websocket_urlpatterns: list[URLPattern] = [
    path("p2p/signaling/", SignalingConsumer.as_asgi(), name="p2p-signaling"),
]
