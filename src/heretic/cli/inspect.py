"""heretic inspect: the weights of a model that an ablation edits."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..config import ModelSettings
from .common import MODEL_HELP, add_json, make_reporter, prepare, print_json, quick_imports
from .parser import Parser

if TYPE_CHECKING:
    from ..commands.inspect import Inspection
    from ..events import Reporter

KEYS = [key for key in ModelSettings.model_fields if key != "full_precision_model"]
SHOWN = ("model_commit", "trust_remote_code", "experts")


def build_parser() -> Parser:
    parser = Parser("inspect", "MODEL", "Shows the weights that write to a model's residual stream, found by probing.")
    parser.add_argument("name", metavar="MODEL", help=MODEL_HELP)
    add_json(parser)
    parser.add_settings(KEYS, SHOWN)
    return parser


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace, model=namespace.name)
    with quick_imports():
        from ..commands.inspect import inspect_model

    inspection = inspect_model(settings, reporter)
    if namespace.json:
        print_json({"version": 1} | asdict(inspection))
    else:
        show(inspection, make_reporter(sys.stdout))
    return 0


def show(inspection: "Inspection", reporter: "Reporter") -> None:
    """The model in a line, and its sites as a table with a row a site."""
    reporter.say(
        f"{inspection.model}: {inspection.model_class}, {count(inspection.parameters)} parameters, "
        f"{inspection.dtype}, d_model {inspection.d_model}, {inspection.n_layers} layers ({inspection.layer_list})"
    )
    columns = ["Layers", "Class", "Component", "Module", "Shape", "Post-norm"]
    rows = []
    for kind in inspection.kinds:
        first = [ranges(kind.layers), kind.layer_class]
        for number, site in enumerate(kind.sites):
            head = first if number == 0 else ["", ""]
            stored = " (transposed)" if site.transposed else ""
            stored += "" if site.chosen is None else f" (experts {ranges(site.chosen)})"
            shape = " x ".join(map(str, site.shape)) + stored
            rows.append([*head, site.component, site.module, shape, site.post_norm or ""])
    reporter.table(f"{inspection.n_sites} sites of {len(inspection.components)} components", columns, rows)


def count(number: int) -> str:
    """A large number with its unit: 8.03B, 134.5M."""
    return f"{number / 1e9:.2f}B" if number >= 1e9 else f"{number / 1e6:.1f}M"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as text: 0-2, 4; with a stride where there are many: 0-28 by 4."""
    if len(numbers) > 2:
        stride = numbers[1] - numbers[0]
        if stride > 1 and tuple(numbers) == tuple(range(numbers[0], numbers[-1] + 1, stride)):
            return f"{numbers[0]}-{numbers[-1]} by {stride}"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
