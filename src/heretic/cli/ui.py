"""heretic ui: a study in the browser."""

import argparse

from .common import LOADING, add_study, given_study, prepare
from .parser import Parser


def build_parser() -> Parser:
    parser = Parser("ui", "[STUDY]", "Serves a web page of a study to this machine: front, chats side by side, export.")
    add_study(parser)
    parser.add_argument("--port", metavar="N", type=int, default=7860, help="port; 0: any that is free (7860)")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    parser.add_settings(LOADING)
    return parser


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace)
    from ..web.serve import serve
    from ..web.service import StudyService

    service = StudyService(given_study(namespace).path, settings, reporter)
    serve(service, namespace.port, not namespace.no_browser, reporter)
    return 0
