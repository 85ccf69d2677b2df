"""heretic upload: an export on its way to Hugging Face."""

import argparse
import sys

from .common import make_reporter, quick_imports, user_path
from .parser import Parser


def build_parser() -> Parser:
    parser = Parser("upload", "DIRECTORY REPOSITORY", "Uploads an export to Hugging Face.")
    parser.add_argument("directory", metavar="DIRECTORY", help="a model or an adapter that heretic wrote")
    parser.add_argument("repository", metavar="REPOSITORY", help="OWNER/NAME, new or existing")
    parser.add_argument("--public", action="store_true", help="make a new repository public (default: private)")
    return parser


def run(namespace: argparse.Namespace) -> int:
    with quick_imports():
        from ..commands.upload import upload_directory

    upload_directory(user_path(namespace.directory), namespace.repository, namespace.public, make_reporter(sys.stderr))
    return 0
