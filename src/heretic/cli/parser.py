"""The parser of a command: a short --help, a full --help-all, and suggestions for misspelled flags."""

import argparse
import json
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from ..config import Settings, add_flags
from ..config.errors import NEAR, nearest
from ..config.flags import SHORT, short_text
from ..config.parsing import table_of
from ..config.renamed import ELSEWHERE, RENAMED, WITHOUT_MEANING, elsewhere

STATUSES = "Exit status: 0 success, 2 bad input, 130 interrupted by Ctrl+C."
WIDTH = 79
"""Width of descriptions, which argparse does not wrap."""
TRUTH = {"true": True, "false": False}
DOTTED = re.compile(r"--([a-z][a-z0-9-]*)\.([\w-]+)(?:=(.*))?", re.DOTALL)
JSON = re.compile(r"true|false|-?\d+(?:\.\d+)?")
OPEN_TABLES = ("max_memory", "device_map", "chat_template_arguments")
TABLES = {
    key
    for key, field in Settings.model_fields.items()
    if key in OPEN_TABLES or (table_of(field.annotation) and key not in ("benchmarks", "judges"))
}
"""Settings whose parts may be given as heretic-llm does: --bad-prompts.dataset X."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that keeps the lines of descriptions and never breaks a flag at its hyphens."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """A parser whose --help shows what matters most and whose --help-all shows everything, in groups.

    `brief` replaces the generated --help.
    """

    def __init__(self, verb: str, arguments: str, description: str, epilog: str = "", brief: str | None = None) -> None:
        self.verb = verb
        self._brief = brief
        self._full_texts: dict[argparse.Action, str] = {}
        self._shown: list[argparse.Action] = []
        self._full = False
        super().__init__(
            prog=f"heretic {verb}".strip(),
            usage=" ".join(["heretic", *filter(None, (verb, arguments)), "[options]"]),
            description=textwrap.fill(description, WIDTH),
            epilog=f"{epilog}\n\n{STATUSES}".strip(),
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.add_argument("-h", "--help", action="help", default=argparse.SUPPRESS, help="show this help")

    def add_settings(
        self,
        keys: Collection[str],
        shown: Sequence[str] = (),
        config: bool = True,
        texts: Mapping[str, str] | None = None,
    ) -> dict[str, argparse.Action]:
        """Adds a flag for each setting of `keys`, and --config; --help shows those of `shown` in that order, --help-all
        all. `texts` are short descriptions for this command, instead of the first sentence of the setting's own.

        Returns the flags by key."""
        actions = add_flags(self, keys)
        for key, action in actions.items():
            self._full_texts[action] = str(action.help)
            text = (texts or {}).get(key) or short_text(str(action.help))
            action.help = text if key in shown else argparse.SUPPRESS
        self._shown = [actions[key] for key in shown]
        if config:
            self.add_argument("--config", metavar="FILE", help="configuration file (default: config.toml here, if any)")
        self.add_argument("--help-all", action=_HelpAll, help="show every option, in groups")
        return actions

    def show_all(self) -> None:
        """Makes every option visible, with its whole description."""
        self._full = True
        for action, text in self._full_texts.items():
            action.help = text

    def format_help(self) -> str:
        if self._full:
            return super().format_help()
        if self._brief is not None:
            return self._brief
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, [])
        formatter.add_text(self.description)
        positionals = [action for action in self._actions if not action.option_strings]
        options = [action for action in self._actions if action.option_strings]
        options.sort(key=self._place)
        for title, actions in (("arguments", positionals), ("options", options)):
            formatter.start_section(title)
            formatter.add_arguments(actions)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def _place(self, action: argparse.Action) -> tuple[bool, bool, int]:
        """Key of the order in --help: arguments of the command itself, settings as it lists them, and what is known."""
        known = bool({"--help", "--help-all", "--config"} & set(action.option_strings))
        setting = action in self._full_texts
        return known, setting, self._shown.index(action) if action in self._shown else 0

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        given, unknown = self.parse_known_args(self._with_switches(self._with_tables(list(args or ()))), namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return given

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            meant = nearest(str(value), map(str, action.choices), 0.6)
            listed = ", ".join(map(str, action.choices))
            hint = f": did you mean {meant}?" if meant else ""
            raise argparse.ArgumentError(action, f"expected one of {listed}, got {value!r}{hint}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nTry {self.prog} --help.\n")

    def _unknown(self, word: str) -> str:
        """The error for an argument that this command does not have."""
        if not word.startswith("-"):
            return f"unexpected argument {word!r}"
        flag = word.partition("=")[0]
        dashed = flag.replace("_", "-")
        if dashed != flag and dashed in self._option_string_actions:
            return f"unknown option {flag}: did you mean {dashed}?"
        key = flag.lstrip("-").removeprefix("no-").replace("-", "_")
        if key in ELSEWHERE:
            return f"{flag} is an option of another program: {elsewhere(key, as_flags=True)}"
        if key in {*Settings.model_fields, *RENAMED, *WITHOUT_MEANING} or flag in SHORT.values():
            return f"{flag} has no effect on this command"
        flags = [name for name in self._option_string_actions if name.startswith("--")]
        meant = nearest(flag, flags, NEAR) or next((name for name in flags if name.startswith(flag)), None)
        return f"unknown option {flag}" + (f": did you mean {meant}?" if meant else "")

    def _with_switches(self, arguments: list[str]) -> list[str]:
        """The arguments with --flag true and --flag=false as --flag and --no-flag."""
        rest: list[str] = []
        remaining = list(arguments)
        while remaining:
            flag, equals, value = remaining.pop(0).partition("=")
            switch = isinstance(self._option_string_actions.get(flag), argparse.BooleanOptionalAction)
            if switch and not equals and remaining and remaining[0].lower() in TRUTH:
                value = remaining.pop(0)
            if switch and value.lower() in TRUTH:
                rest.append(flag if TRUTH[value.lower()] else f"--no-{flag.removeprefix('--')}")
            else:
                rest.append(flag + equals + value)
        return rest

    def _with_tables(self, arguments: list[str]) -> list[str]:
        """The arguments with the parts of tables (--bad-prompts.dataset X) put together to one flag a table."""
        rest: list[str] = []
        tables: dict[str, dict[str, Any]] = {}
        remaining = iter(arguments)
        for word in remaining:
            match = DOTTED.fullmatch(word)
            if match is None or match[1].replace("-", "_") not in TABLES:
                rest.append(word)
                continue
            value = match[3] if match[3] is not None else next(remaining, None)
            if value is None:
                self.error(f"argument {word}: expected one argument")
            # A template's variables may be of any type: the text "false" would switch thinking on.
            typed = match[1] == "chat-template-arguments" and JSON.fullmatch(value) is not None
            tables.setdefault(match[1], {})[match[2].replace("-", "_")] = json.loads(value) if typed else value
        both = next((name for name in tables for word in rest if word.partition("=")[0] == f"--{name}"), None)
        if both is not None:
            self.error(f"give --{both} or its parts (--{both}.{next(iter(tables[both]))}), not both")
        return rest + [f"--{name}={json.dumps(table)}" for name, table in tables.items()]


class _HelpAll(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *unused: Any) -> None:
        assert isinstance(parser, Parser)
        parser.show_all()
        parser.print_help()
        parser.exit()
