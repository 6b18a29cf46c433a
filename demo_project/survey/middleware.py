"""The pages' content security policy: nothing inline, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], HttpResponse]


def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Middleware that lets a page load its own scripts and styles, and open its own WebSocket."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            # Not every browser counts ws: to the same port as 'self'.
            f"connect-src 'self' ws://{request.get_host()}; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        )
        return response

    return middleware
