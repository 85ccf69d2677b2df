"""Every command has a module with a parser, and imports nothing heavy for it."""

import subprocess
import sys

import pytest

from heretic.cli.parser import Parser
from heretic.cli.registry import VERBS, build_parser, module_of


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_a_command_has_a_parser_of_its_name_and_a_run(verb: str) -> None:
    parser = build_parser(verb)
    assert isinstance(parser, Parser)
    assert parser.prog == f"heretic {verb}".strip()
    assert callable(module_of(verb).run)


def test_no_parser_imports_anything_heavy() -> None:
    program = (
        "import sys\nfrom heretic.cli.registry import VERBS, build_parser\n"
        "for verb in ['', *VERBS]: build_parser(verb).format_help()\n"
        "heavy = {'torch', 'transformers', 'optuna', 'datasets', 'numpy', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
