"""heretic evaluate: any model, measured like a candidate."""

import argparse
from typing import TYPE_CHECKING

from ..config import ChatTemplateSettings, EvaluationSettings, ModelSettings, PromptSettings, Settings
from ..printable import printable
from .common import ENGINE, MODEL_HELP, add_json, prepare, print_json
from .parser import Parser

if TYPE_CHECKING:
    from ..events import Reporter

UNUSED = {
    *("full_precision_model", "experts", "evaluate_model", "benchmarks", "kl_divergence_scale", "kl_divergence_target"),
    *("over_refusal_objective", "over_refusal_evaluation_prompts"),
}
SECTIONS = (ModelSettings, PromptSettings, ChatTemplateSettings, EvaluationSettings)
KEYS = [key for section in SECTIONS for key in section.model_fields if key not in UNUSED] + list(ENGINE)
SHOWN = (
    *("preset", "system_prompt", "good_evaluation_prompts", "bad_evaluation_prompts", "max_response_length"),
    *("print_responses", "quantization", "batch_size"),
)


def build_parser() -> Parser:
    parser = Parser("evaluate", "MODEL", "Counts a model's refusals, and measures its KL divergence from a base model.")
    parser.add_argument("name", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--against", metavar="BASE", help="base model of the KL divergence")
    add_json(parser)
    parser.add_settings(KEYS, SHOWN)
    return parser


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace, model=namespace.name)
    return print_evaluation(settings, namespace.name, namespace.against, namespace.json, reporter)


def print_evaluation(settings: Settings, model: str, base: str | None, as_json: bool, reporter: "Reporter") -> int:
    from ..commands.evaluate import evaluate_model
    from ..report.text import value_text

    found = evaluate_model(settings, model, base, reporter)
    if as_json:
        print_json(found.plain())
        return 0
    metrics = [metric for metric in found.metrics.values() if metric is not None]
    values = ", ".join(f"{metric.label} {value_text(metric, metric.value)}" for metric in metrics)
    line = f"{found.model}: {values}" + (f" against {found.against}" if found.against is not None else "")
    print(printable(line))
    return 0
