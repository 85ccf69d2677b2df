"""Shell completion, made from the parsers of all verbs."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from .common import Parser, make_parser

SHELLS = ("bash", "zsh", "fish", "tcsh")
PATHS = {"MODEL", "BASE", "STUDY", "DIRECTORY", "DIR", "FILE"}
INSTALL = """bash:  heretic completion bash > ~/.local/share/bash-completion/completions/heretic
zsh:   heretic completion zsh > DIRECTORY/_heretic     (a directory of $fpath; then: compinit)
fish:  heretic completion fish > ~/.config/fish/completions/heretic.fish
tcsh:  heretic completion tcsh >> ~/.tcshrc"""


def completion_script(shell: str, verbs: Mapping[str, str], run: Callable[[str], Any]) -> str:
    """A script that completes verbs, flags, choices and paths in `shell`.

    `verbs` are their descriptions; `run` runs one ("" for the main job), whose parser is taken as it would parse.
    """
    import shtab

    main = Parser.of(lambda: run(""))
    if shell == "fish":
        return fish_script(main, {verb: Parser.of(lambda verb=verb: run(verb)) for verb in verbs}, verbs)  # type: ignore[misc]
    program = argparse.ArgumentParser(prog="heretic", parents=[_bare(main, positionals=False)])
    commands = program.add_subparsers(metavar="COMMAND")
    for verb, description in verbs.items():
        parser = Parser.of(lambda verb=verb: run(verb))  # type: ignore[misc]
        commands.add_parser(verb, help=description, parents=[_bare(parser)])
    return str(shtab.complete(program, shell=shell))


def fish_script(
    main: argparse.ArgumentParser, parsers: Mapping[str, argparse.ArgumentParser], verbs: Mapping[str, str]
) -> str:
    """A script for fish, which shtab does not write."""
    anything = f"__fish_seen_subcommand_from {' '.join(verbs)}"
    lines = ["complete -c heretic -e"]
    lines += [f"complete -c heretic -n 'not {anything}' -a {verb} -d {_quoted(text)}" for verb, text in verbs.items()]
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


def completion_verb(given: list[str], verbs: Mapping[str, str], run: Callable[[str], Any]) -> str:
    parser = make_parser(
        "completion", "SHELL", "Prints a script that completes heretic's commands in a shell.", INSTALL
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    return completion_script(parser.parse_args(given).shell, verbs, run)


def _bare(parser: argparse.ArgumentParser, positionals: bool = True) -> argparse.ArgumentParser:
    """The parser's arguments, for another one that has its own --help.

    Without `positionals`: the main job's MODEL stands where a verb may, and a script knows one of the two alone.
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
