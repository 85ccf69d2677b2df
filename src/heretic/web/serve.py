"""Serves the page on loopback until Ctrl+C."""

import logging
import os
import secrets
import socket
import threading
import webbrowser

from ..errors import ConfigError
from ..events import Reporter
from ..installing import install_command
from .service import StudyService

HOST = "127.0.0.1"
LAST_PORT = 65535


def serve(service: StudyService, port: int, browser: bool, reporter: Reporter) -> None:
    """Serves the study's page; port 0 takes any that is free.

    Raises:
        ConfigError: Gradio is missing, or the port is taken or none.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio as gr
        import uvicorn
    except ImportError as error:
        raise ConfigError(
            f"Expected Gradio, which shows the page, but {error}. Install it with: {install_command('ui')}"
        ) from error
    from fastapi import FastAPI

    from .guard import OwnPageOnly
    from .page import build_page

    listener = _listen(port)
    port = listener.getsockname()[1]
    # `httpx` logs every request at this level, including Gradio's own.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    page = build_page(service)
    # Fonts of the system: the default ones come from another machine.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="",
        server_name=HOST,
        server_port=port,
        theme=theme,
        ssr_mode=False,
        footer_links=[],
    )
    token = secrets.token_urlsafe(24)
    address = f"http://{HOST}:{port}/?token={token}"
    reporter.say(
        f"The page is at {address} (Ctrl+C ends it). Only this machine can reach it, and only with this token."
    )
    if browser:
        threading.Timer(1.0, webbrowser.open, [address]).start()
    server = uvicorn.Server(
        uvicorn.Config(OwnPageOnly(app, port, token), log_level="warning", timeout_graceful_shutdown=1)
    )
    server.run(sockets=[listener])


def _listen(port: int) -> socket.socket:
    """A socket that listens on loopback.

    Raises:
        ConfigError: the port is taken, or there is no such port.
    """
    if not 0 <= port <= LAST_PORT:
        raise ConfigError(f"Expected a port from 0 (any that is free) to {LAST_PORT}, got {port}. Correct --port.")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        # From here on, an early browser waits instead of being refused.
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(f"Expected port {port} to be free, but {error}. Give another one with --port.") from error
    return listener
