"""heretic ui: a study in the browser."""

import argparse

from .common import LOADING, add_study, given_study, prepare, quick_imports
from .parser import Parser

LAST_PORT = 65535


def build_parser() -> Parser:
    parser = Parser("ui", "[STUDY]", "Serves a web page of a study to this machine: front, chats side by side, export.")
    add_study(parser)
    parser.add_argument(
        "--port", metavar="N", type=_port, default=7860, help="port; 0: any that is free (default: 7860)"
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    parser.add_settings(LOADING)
    return parser


def _port(text: str) -> int:
    """A port's number, for argparse."""
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to {LAST_PORT}, got {text!r}")
    return int(text)


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace)
    with quick_imports():
        from ..web.serve import serve
        from ..web.service import StudyService

    service = StudyService(given_study(namespace).path, settings, reporter)
    serve(service, namespace.port, not namespace.no_browser, reporter)
    return 0
