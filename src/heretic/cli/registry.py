"""The commands of `heretic`, each in the module of its name. A module is imported when its command is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .common import Parser

VERBS = {
    "demo": "try it: search on a small model that it downloads",
    "results": "print the Pareto front of a study",
    "export": "write a trial as a model, a LoRA adapter or a .gguf file",
    "chat": "chat with a trial",
    "compare": "show answers of the baseline and of trials side by side",
    "benchmark": "run lm-evaluation-harness on the baseline and on trials",
    "report": "write a study as a web page and as JSON",
    "ui": "open a study in the browser: front, chats, export",
    "upload": "upload an export to Hugging Face",
    "evaluate": "measure any model like a candidate",
    "reproduce": "repeat a recorded study and compare the metrics",
    "inspect": "show the weights of a model that can be edited",
    "split": "split a prompt set into disjoint parts",
    "doctor": "show devices, memory, versions and what fits",
    "config": "print all settings with their defaults",
    "completion": "print a completion script for a shell",
}
"""Help of each command, in the order of the listing."""

SEARCH = "search"
"""Module of the command without a name: `heretic MODEL`."""


def module_of(verb: str) -> Any:
    """The module of a command ("" for `heretic MODEL`): it has `build_parser()` and `run(namespace)`."""
    return import_module(f".{verb or SEARCH}", __package__)


def build_parser(verb: str) -> "Parser":
    """The parser of a command, "" for `heretic MODEL`."""
    parser: Parser = module_of(verb).build_parser()
    return parser
