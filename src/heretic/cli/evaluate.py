"""heretic evaluate: any model, measured like a candidate."""

import argparse
from typing import TYPE_CHECKING

from ..config import ChatTemplateSettings, EvaluationSettings, ModelSettings, PromptSettings
from ..printable import printable
from .common import ENGINE, MODEL_HELP, add_json, prepare, print_json, quick_imports
from .parser import Parser

if TYPE_CHECKING:
    from ..commands.evaluate import ModelEvaluation

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
    with quick_imports():
        from ..commands.evaluate import evaluate_model

    return print_evaluation(evaluate_model(settings, namespace.name, namespace.against, reporter), namespace.json)


def print_evaluation(found: "ModelEvaluation", as_json: bool) -> int:
    """Prints the metrics in a line, or as JSON; returns the exit status."""
    from ..report.text import value_text

    if as_json:
        print_json(found.plain())
        return 0
    metrics = [metric for metric in found.metrics.values() if metric is not None]
    values = ", ".join(f"{metric.label} {value_text(metric, metric.value)}" for metric in metrics)
    line = f"{found.model}: {values}" + (f" against {found.against}" if found.against is not None else "")
    print(printable(line))
    return 0
