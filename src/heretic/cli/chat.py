"""heretic chat: a conversation with a trial of a recorded study."""

import argparse

from .common import LOADING, add_study, given_study, prepare, quick_imports
from .parser import Parser

OPTIONS = ("system", "temperature", "top_p", "top_k", "tokens", "sampling_seed")


def build_parser() -> Parser:
    parser = Parser("chat", "[STUDY]", "Chats with a trial of a study. /help shows what can be changed meanwhile.")
    add_study(parser)
    # None of these is a setting, though some are called like one.
    parser.add_argument("--trial", dest="which", metavar="RULE|N", help="number, rule or baseline (default: knee)")
    parser.add_argument("--system-prompt", dest="system", metavar="TEXT", help="system prompt; none: without one")
    parser.add_argument("--temperature", metavar="X", help="0 always takes the likeliest token (default: 0)")
    parser.add_argument("--top-p", metavar="X", help="sample from the likeliest tokens whose probabilities sum to X")
    parser.add_argument("--top-k", metavar="N", help="sample from the N likeliest tokens")
    parser.add_argument(
        "--max-response-length",
        "--tokens",
        dest="tokens",
        metavar="N",
        help="end a response after N tokens (default: 4096)",
    )
    parser.add_argument("--seed", dest="sampling_seed", metavar="N", help="seed of the sampling")
    parser.add_settings(LOADING)
    return parser


def run(namespace: argparse.Namespace) -> int:
    from ..events import Partner
    from ..ui.chat import ChatOptions, lines_of_stdin, talk

    given = {name: value for name in OPTIONS if (value := getattr(namespace, name)) is not None}
    if "sampling_seed" in given:
        given["seed"] = given.pop("sampling_seed")
    options = ChatOptions(**given)
    options.check()
    settings, reporter = prepare(namespace)
    with quick_imports():
        from ..commands.chat import chat
        from ..session.recorded import find_trial, load_study

    def screen(partner: Partner, title: str) -> None:
        note = options.apply(partner)
        talk(partner, f"{title} {note}".rstrip(), lines_of_stdin())

    study = given_study(namespace)
    trial = None if namespace.which == "baseline" else find_trial(study, namespace.which)
    chat(load_study(study, settings, reporter), trial, screen)
    return 0
