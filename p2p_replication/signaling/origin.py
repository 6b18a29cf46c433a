"""The origin check: a browser sends its cookies along from any page, so the page must be one of ours."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import validate_host
from django.utils.http import is_same_domain

_DEBUG_HOSTS = [".localhost", "127.0.0.1", "[::1]"]  # as Django itself allows with DEBUG and no ALLOWED_HOSTS
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def refused_origin(origins: list[str], hosts: list[str]) -> str | None:
    """Check the ``Origin`` headers of a request that is authenticated by cookie.

    An origin passes if it is the very host and port of the request, or if ``ALLOWED_HOSTS`` or
    ``CSRF_TRUSTED_ORIGINS`` names it. ``"*"`` in ``ALLOWED_HOSTS`` names nobody here.

    Args:
        origins: the values of all Origin headers.
        hosts: the values of all Host headers.

    Returns:
        Why it is refused, or None if it passes.
    """
    if not origins:
        return "a session cookie counts only with an Origin header; programs use a device token"
    if len(set(origins)) > 1:
        return "more than one Origin header"
    origin = origins[0]
    if _is_trusted(origin.lower()):
        return None
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or not parts.scheme:
        return f"the Origin {origin[:200]!r} is not a web page's address"
    netloc_host = f"[{host}]" if ":" in host else host
    if validate_host(netloc_host, _named_hosts()) or _is_request_host(host, port, parts.scheme, hosts):
        return None
    return f"the Origin {origin[:200]!r} is neither this host nor in ALLOWED_HOSTS or CSRF_TRUSTED_ORIGINS"


def _is_trusted(origin: str) -> bool:
    scheme, _, netloc = origin.partition("://")
    for trusted in settings.CSRF_TRUSTED_ORIGINS:
        trusted_scheme, _, pattern = trusted.lower().partition("://")
        if scheme == trusted_scheme and is_same_domain(netloc, pattern.removeprefix("*")):
            return True
    return False


def _named_hosts() -> list[str]:
    allowed = list(settings.ALLOWED_HOSTS)
    if settings.DEBUG and not allowed:
        allowed = _DEBUG_HOSTS
    return [host for host in allowed if host != "*"]


def _is_request_host(host: str, port: int | None, scheme: str, request_hosts: list[str]) -> bool:
    """Whether the origin is the host that the request itself was sent to (which must be allowed, as for pages)."""
    if len(set(request_hosts)) != 1 or "*" not in settings.ALLOWED_HOSTS:
        return False
    try:
        parts = urlsplit(f"//{request_hosts[0]}")
        request_host, request_port = parts.hostname, parts.port
    except ValueError:
        return False
    default = _DEFAULT_PORTS.get(scheme.lower())
    return host == request_host and (port or default) == (request_port or default)
