"""Writes docs/coverage.md: which families of models work, measured on a tiny random model of each.

python tools/family_coverage.py                  # every family, and the page
python tools/family_coverage.py qwen3_moe lfm2   # these, as lines
python tools/family_coverage.py --rows FILE      # every family that is not in FILE yet, and the page

Some vision towers need timm, which no other part of this project does. It goes into a folder of its own:
`pip install --no-deps --target FOLDER timm torchvision`, and `PYTHONPATH=FOLDER`.
"""

import argparse
import importlib.util
import json
import logging
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

if importlib.util.find_spec("torchvision"):
    # A wheel for CUDA has no operators on a machine without it, and importing it asks for these by name.
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import transformers  # noqa: E402
from family_edits import exports, hooks_equal_merge  # noqa: E402
from family_job import whole_job  # noqa: E402
from family_models import Excluded, Unbuildable, build, line  # noqa: E402
from gradient_check import deviation  # noqa: E402
from tiny_models import causal_families, image_text_families, image_text_model  # noqa: E402

from heretic.ablation.sites import components_of  # noqa: E402
from heretic.model.layers import decoder_layers  # noqa: E402
from heretic.model.sites.find import find_sites  # noqa: E402

MODES = ("none", "pre", "full")
SECONDS = 240


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one family (works, fails, excluded, not built), with the step that failed and the reason.

    `gradient` is the error of learned gradients, or why there are none: no other method needs them.
    """

    family: str
    outcome: str
    model_class: str = ""
    components: tuple[str, ...] = ()
    layer_classes: tuple[str, ...] = ()
    error: float = 0.0
    reason: str = ""
    gradient: str = ""


def check(family: str, job: bool = True) -> Row:
    """Runs all checks of a family in order; the first failure is its reason. Without `job`, sites, edits and exports
    alone."""
    signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(SECONDS)
    row, step = Row(family, "fails"), "build"
    try:
        model = build(family)
        row, step = replace(row, model_class=type(model).__name__), "sites"
        with torch.inference_mode():
            sites = find_sites(model)
            step = "edits"
            error = max(hooks_equal_merge(model, sites, mode) for mode in MODES)
        step = "export"
        error = max(error, exports(model, sites))
        classes = tuple(dict.fromkeys(type(layer).__name__ for layer in decoder_layers(model)[1]))
        row = replace(row, components=components_of(tuple(sites)), layer_classes=classes, error=error)
        if job:
            row, step = replace(row, gradient=_outcome(deviation, build(family))), "whole job"
            # A text model that is saved by itself may have no class that loads it: it comes with its images' encoder.
            whole_job(model if model.config.model_type == family else image_text_model(family) or model)
        return replace(row, outcome="works")
    except Excluded as error:
        return Row(family, "excluded", reason=str(error))
    except Unbuildable as error:
        return Row(family, "not built", reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a family raises is its row in the table
        return replace(row, reason=f"{step}: {line(error)}")
    finally:
        signal.alarm(0)


def _outcome(measure: Callable[[Any], float], model: Any) -> str:
    """The measured number, or the reason why it can't be measured."""
    try:
        return f"{measure(model):.0e}"
    except TimeoutError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a family raises is its row in the table
        return line(error)


def _too_slow(*_: Any) -> None:
    raise TimeoutError(f"it takes more than {SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="model types (default: all, and the page is written)")
    parser.add_argument("--rows", type=Path, help="a file of rows measured before, to which new ones are added")
    parsed = parser.parse_args()
    _quiet()
    everything = [*causal_families(), *image_text_families()]
    kept = _kept_rows(parsed.rows)
    rows = []
    for family in parsed.families or everything:
        row = kept.get(family) or check(family)
        rows.append(row)
        if parsed.rows and family not in kept:
            with parsed.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
        print(f"{row.outcome:<9} {family:<24} {', '.join(row.components) or row.reason}", flush=True)
    if not parsed.families:
        from coverage_page import write_page

        write_page(rows, Path(__file__).parent.parent / "docs" / "coverage.md")


def _kept_rows(file: Path | None) -> dict[str, Row]:
    if file is None or not file.exists():
        return {}
    values = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    lists = ("components", "layer_classes")
    return {each["family"]: Row(**each | {name: tuple(each[name]) for name in lists}) for each in values}


def _quiet() -> None:
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
