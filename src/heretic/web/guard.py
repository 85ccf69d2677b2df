"""Access control of the local page: it refuses requests from other pages, programs and users.

Every page open in this machine's browsers, and every program and user of the machine, can reach a server on loopback.
So a request must name this server as its host (against DNS rebinding), have no other origin, and carry the token that
the terminal shows. A content security policy keeps the page from loading anything from other servers.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)
NAMES = ("127.0.0.1", "localhost", "[::1]")


REFUSED = ("/upload", "/gradio_api/upload", "/docs", "/redoc", "/openapi.json")
"""Endpoints that the page does not use: uploads, and descriptions of the API."""


class OwnPageOnly:
    """ASGI middleware that passes on only requests from this server's own page.

    The address with `?token=` sets a cookie, which all other requests must carry.
    """

    def __init__(self, app: App, port: int, token: str) -> None:
        self._app = app
        self._token = token
        # Cookies don't distinguish ports: each server needs its own name for the cookie.
        self._cookie = f"heretic-{port}"
        self._hosts = {f"{name}:{port}" for name in NAMES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif self._is_own(scope) and self._brings_token(scope) and not scope["path"].startswith(REFUSED):
            await self._app(scope, receive, _with_policy(send))
        elif self._is_own(scope) and self._is_sign_in(scope):
            value = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            headers = [(b"location", b"/"), (b"set-cookie", value.encode()), (b"referrer-policy", b"no-referrer")]
            await send({"type": "http.response.start", "status": 303, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = b"Refused: open the address with the token, as the terminal shows it.\n"
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _is_sign_in(self, scope: Scope) -> bool:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        return scope["type"] == "http" and scope["path"] == "/" and self._is_token(given)

    def _brings_token(self, scope: Scope) -> bool:
        sent = "; ".join(value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"cookie")
        try:
            found = SimpleCookie(sent).get(self._cookie)
        except CookieError:
            return False
        return found is not None and self._is_token(found.value)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _is_own(self, scope: Scope) -> bool:
        headers = {name.decode().lower(): value.decode("latin-1").lower() for name, value in scope["headers"]}
        host = headers.get("host", "")
        return (
            host in self._hosts
            and headers.get("origin", f"http://{host}") == f"http://{host}"
            and headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        )


def _with_policy(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            policy = (b"content-security-policy", POLICY.encode())
            message["headers"] = [*message.get("headers", []), policy, (b"x-content-type-options", b"nosniff")]
        await send(message)

    return sending
