from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path

from demo_project.survey.live import LiveConsumer

websocket_urlpatterns = [path("live/", AllowedHostsOriginValidator(LiveConsumer.as_asgi()))]
