"""heretic config: all settings with their defaults, as a configuration file."""

import argparse

from .parser import Parser


def build_parser() -> Parser:
    return Parser("config", "", "Prints all settings with their defaults and descriptions, ready for a config.toml.")


def run(namespace: argparse.Namespace) -> int:
    from ..config.document import document

    print(document(), end="")
    return 0
