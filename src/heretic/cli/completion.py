"""heretic completion: shell completion, made from the parsers of all commands."""

import argparse
from collections.abc import Mapping

from .parser import Parser
from .registry import VERBS
from .registry import build_parser as parser_of

SHELLS = ("bash", "zsh", "fish", "tcsh")
PATHS = {"MODEL", "BASE", "STUDY", "DIRECTORY", "DIR", "FILE"}
INSTALL = """where its output goes:
  bash   ~/.local/share/bash-completion/completions/heretic
  zsh    _heretic in a directory of $fpath; then: compinit
  fish   ~/.config/fish/completions/heretic.fish
  tcsh   the end of ~/.tcshrc"""


def build_parser() -> Parser:
    parser = Parser("completion", "SHELL", "Prints a script that completes heretic's commands in a shell.", INSTALL)
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    return parser


def run(namespace: argparse.Namespace) -> int:
    print(completion_script(namespace.shell))
    return 0


def completion_script(shell: str) -> str:
    """A script that completes commands, options, choices and paths in `shell`."""
    import shtab

    main, parsers = _whole_parser(""), {verb: _whole_parser(verb) for verb in VERBS}
    if shell == "fish":
        return fish_script(main, parsers)
    program = argparse.ArgumentParser(prog="heretic", parents=[_bare(main, positionals=False)])
    commands = program.add_subparsers(metavar="COMMAND")
    for verb, parser in parsers.items():
        commands.add_parser(verb, help=VERBS[verb], parents=[_bare(parser)])
    return str(shtab.complete(program, shell=shell))


def _whole_parser(verb: str) -> Parser:
    parser = parser_of(verb)
    parser.show_all()
    return parser


def fish_script(main: argparse.ArgumentParser, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """A script for fish, which shtab does not write."""
    anything = f"__fish_seen_subcommand_from {' '.join(parsers)}"
    lines = ["complete -c heretic -e"]
    lines += [f"complete -c heretic -n 'not {anything}' -a {verb} -d {_quoted(VERBS[verb])}" for verb in parsers]
    lines += _fish_flags(main, f"not {anything}")
    for verb, parser in parsers.items():
        lines += _fish_flags(parser, f"__fish_seen_subcommand_from {verb}")
    return "\n".join(lines)


def _fish_flags(parser: argparse.ArgumentParser, where: str) -> list[str]:
    """A line for each argument: its names, its choices, whether files are meant, and the first sentence of its help."""
    lines = []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        words = [f"complete -c heretic -n '{where}'"]
        words += [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in action.option_strings]
        if action.option_strings and action.nargs != 0:
            words.append("-r" if action.metavar in PATHS else "-x")
        if action.choices:
            words.append(f"-f -a {_quoted(' '.join(map(str, action.choices)))}")
        if action.option_strings and action.help:
            words.append(f"-d {_quoted(action.help.partition('. ')[0])}")
        if action.option_strings or action.choices:
            lines.append(" ".join(words))
    return lines


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("%%", "%")
    return f"'{escaped}'"


def _bare(parser: argparse.ArgumentParser, positionals: bool = True) -> argparse.ArgumentParser:
    """The parser's arguments, for another one that has its own --help.

    Without `positionals`: MODEL has the same position as a command, and a script can complete only one of the two.
    """
    import shtab

    bare = argparse.ArgumentParser(add_help=False)
    for group in parser._action_groups:
        target = bare.add_argument_group(group.title)
        for action in group._group_actions:
            if isinstance(action, argparse._HelpAction) or not (action.option_strings or positionals):
                continue
            if action.metavar in PATHS:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            target._add_action(action)
    return bare
