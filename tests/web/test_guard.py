"""Only a request with the token, of the page's own origin, reaches the page."""

import asyncio
from typing import Any

import pytest

from heretic.web.guard import OwnPageOnly, Receive, Scope, Send

PORT, TOKEN = 7860, "secret-token"
COOKIE = f"heretic-{PORT}={TOKEN}"


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


def ask(path: str = "/", query: str = "", kind: str = "http", **headers: str) -> dict[str, Any]:
    """The first message of the answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    given = {"host": f"127.0.0.1:{PORT}"} | headers
    listed = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": listed}
    asyncio.run(OwnPageOnly(page, PORT, TOKEN)(scope, receive, send))
    return sent[0]


def test_the_cookie_opens_the_page() -> None:
    answer = ask(cookie=COOKIE)
    assert answer["status"] == 200
    assert b"content-security-policy" in dict(answer["headers"])
    assert ask(cookie=f"other=1; {COOKIE}")["status"] == 200


@pytest.mark.parametrize("cookie", ["", "heretic-7860=", "heretic-7860=wrong", f"heretic-1={TOKEN}", "\xff=;;", TOKEN])
def test_no_other_cookie_does(cookie: str) -> None:
    assert ask(cookie=cookie)["status"] == 403
    assert ask(kind="websocket", cookie=cookie)["type"] == "websocket.close"


def test_the_address_with_the_token_sets_it_and_leaves_the_address() -> None:
    answer = ask(query=f"token={TOKEN}")
    headers = dict(answer["headers"])
    assert answer["status"] == 303
    assert headers[b"location"] == b"/"
    assert headers[b"set-cookie"] == f"{COOKIE}; Path=/; HttpOnly; SameSite=Strict".encode()


@pytest.mark.parametrize(("path", "query"), [("/", "token=wrong"), ("/", "token="), ("/config", f"token={TOKEN}")])
def test_no_other_address_does(path: str, query: str) -> None:
    assert ask(path, query)["status"] == 403


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}])
def test_the_token_does_not_help_other_origins(headers: dict[str, str]) -> None:
    assert ask(cookie=COOKIE, **headers)["status"] == 403
    assert ask(query=f"token={TOKEN}", **headers)["status"] == 403


@pytest.mark.parametrize("path", ["/upload", "/gradio_api/upload", "/gradio_api/upload_progress"])
def test_no_file_is_taken(path: str) -> None:
    assert ask(path, cookie=COOKIE)["status"] == 403
