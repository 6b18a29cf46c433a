"""A visitor of a node's pages: signs in by link, and keeps cookies."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from demo_project.launcher.node import Node
from demo_project.launcher.ports import HOST


class Visitor:
    """One browser, as far as forms need it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._cookies: dict[str, str] = {}
        self._connection = http.client.HTTPConnection(HOST, node.port, timeout=30)

    def sign_in(self, link: str) -> tuple[int, str]:
        """Follow a sign-in link; returns the answer's status, which is to be 302, and its text."""
        return self.get(link.removeprefix(self.node.url))

    def get(self, path: str) -> tuple[int, str]:
        """Get a page: its status and text. A page with a form brings the CSRF cookie."""
        return self._request("GET", path)

    def post(self, path: str, form: Mapping[str, str]) -> tuple[int, str]:
        """Send a form; returns the answer's status and text."""
        token = self._cookies[f"demo_{self.node.key}_csrf"]
        return self._request("POST", path, urlencode({**form, "csrfmiddlewaretoken": token}))

    def close(self) -> None:
        self._connection.close()

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        for header in response.headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(header).items():
                self._cookies[name] = morsel.value
        return response.status, text
