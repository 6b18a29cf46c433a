"""A visitor of the demo's pages, by plain HTTP."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from demo_project.launcher.node import Node


@dataclass
class Page:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")

    def form(self) -> dict[str, str]:
        """The values of the inputs that carry one, and of the text areas."""
        values: dict[str, str] = {}
        for tag in re.findall(r"<input[^>]*>", self.text):
            name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
            if name and 'type="checkbox"' not in tag:
                values[name[1]] = unescape(value[1]) if value else ""
        for name, text in re.findall(r'<textarea[^>]*name="([^"]*)"[^>]*>\s?(.*?)</textarea>', self.text, re.DOTALL):
            values[name] = unescape(text)
        return values


@dataclass
class Visitor:
    node: Node
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Page:
        return self._request("GET", path)

    def post(self, path: str, form: dict[str, str]) -> Page:
        return self._request("POST", path, urlencode(form))

    @property
    def cookie_header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def _request(self, method: str, path: str, body: str | None = None) -> Page:
        connection = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=20)
        headers = {"Cookie": self.cookie_header}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        for header in response.headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(header).items():
                self.cookies[name] = morsel.value
        return Page(response.status, response.headers, text)
