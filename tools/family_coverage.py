"""Writes docs/coverage.md: which families of models work, measured on a tiny random model of each.

python tools/family_coverage.py                  # every family, and the page
python tools/family_coverage.py qwen3_moe lfm2   # these, as lines
python tools/family_coverage.py --rows FILE      # every family that is not in FILE yet

Some vision towers need timm, which no other part of this project does. It goes into a folder of its own:
`pip install --no-deps --target FOLDER timm torchvision`, and `PYTHONPATH=FOLDER`.
"""

import argparse
import importlib.util
import inspect
import json
import logging
import signal
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_models import causal_families, image_text_families, model_class, tiny_config, tiny_model
from torch import Tensor, nn

from heretic.ablation.directions import Directions
from heretic.ablation.edit import ModelEdit, edit_weight
from heretic.ablation.methods.kernel.compile import compile_edit
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.methods.tensors import StudyTensors
from heretic.ablation.parameters import AblationParameters, WeightKernel
from heretic.ablation.sites import MeasuredGain, PostNorm, Site, components_of
from heretic.ablation.weight_stats import weight_stats
from heretic.export.edits import edit_from
from heretic.export.formats.merge import merge
from heretic.export.readers.base import open_checkpoint
from heretic.export.readers.tensors import raw_bytes
from heretic.model.hooks.edits import edited_model
from heretic.model.layers import decoder_layers, width
from heretic.model.sites.feature_gain import measured_gain
from heretic.model.sites.find import find_sites, site_weight

MODES = ("none", "pre", "full")
SECONDS = 120
# A share of the change that the edit makes to the logits; rounding of fp32 through a few layers is a hundredth of it.
TOLERANCE = 1e-3
ROWS, POSITIONS = 3, 12


class Excluded(Exception):
    """The family is no causal decoder of text, by one of the stated rules."""


class Unbuildable(Exception):
    """No tiny model of the family can be made and run here."""


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one family (works, fails, excluded, not built), with the reason."""

    family: str
    outcome: str
    model_class: str = ""
    components: tuple[str, ...] = ()
    layer_classes: tuple[str, ...] = ()
    error: float = 0.0
    reason: str = ""


def check(family: str) -> Row:
    """Runs all checks of a family in order; the first failure is its reason."""
    signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(SECONDS)
    model_class = ""
    try:
        model = build(family)
        model_class = type(model).__name__
        with torch.inference_mode():
            sites = find_sites(model)
            error = max(_hooks_equal_merge(model, sites, mode) for mode in MODES)
        error = max(error, _exports(model, sites))
        classes = tuple(dict.fromkeys(type(layer).__name__ for layer in decoder_layers(model)[1]))
        return Row(family, "works", model_class, components_of(tuple(sites)), classes, error)
    except Excluded as error:
        return Row(family, "excluded", reason=str(error))
    except Unbuildable as error:
        return Row(family, "not built", reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a family raises is its row in the table
        return Row(family, "fails", model_class, reason=_line(error))
    finally:
        signal.alarm(0)


def build(family: str) -> Any:
    """A tiny model of the family that runs on tokens alone and is causal.

    Raises:
        Excluded: by rule.
        Unbuildable: the configuration or the model raises.
    """
    try:
        config = tiny_config(family)
    except Exception as error:
        raise Unbuildable(_line(error)) from error
    if config.is_encoder_decoder:
        raise Excluded("encoder-decoder: its configuration says so")
    if "shared_kv_states" in inspect.signature(model_class(family).forward).parameters:
        raise Excluded("draft model of speculative decoding: it reads another model's states")
    try:
        model = tiny_model(family)
    except Exception as error:
        raise Unbuildable(_line(error)) from error
    if any(name.endswith("encoder_attn") for name, _ in model.named_modules()):
        raise Excluded("decoder of an encoder-decoder: its layers attend to an encoder")
    try:
        _check_causal(model)
    except Excluded:
        raise
    except Exception as error:
        raise Unbuildable(f"it does not run on tokens alone: {_line(error)}") from error
    return model


@torch.inference_mode()
def _check_causal(model: nn.Module) -> None:
    tokens = ids()
    before = logits(model, tokens)
    if before.shape[:2] != tokens.shape:
        raise Excluded(f"no language model: logits of shape {tuple(before.shape)} for {tuple(tokens.shape)} tokens")
    if not torch.isfinite(before).all():
        raise ValueError("the tiny model's logits are not finite")
    tokens[:, -1] = 50
    if not torch.allclose(before[:, :-1], logits(model, tokens)[:, :-1], atol=1e-4):
        raise Excluded("encoder: earlier positions change with a later token")


def ids() -> Tensor:
    return torch.arange(POSITIONS)[None].repeat(ROWS, 1) + torch.arange(ROWS)[:, None] + 5


def logits(model: Any, tokens: Tensor) -> Tensor:
    result: Tensor = model(input_ids=tokens, use_cache=False).logits
    return result.float()


def parameters(sites: Sequence[Site], n_layers: int) -> AblationParameters:
    """A candidate that edits every site with a strength of its own layer's."""
    kernel = WeightKernel(
        max_weight=1.0, max_weight_position=n_layers - 1, min_weight=0.5, min_weight_distance=n_layers
    )
    return KernelParameters(
        direction_scope="per layer", direction_index=0.0, kernels=dict.fromkeys(components_of(tuple(sites)), kernel)
    )


def directions(model: nn.Module) -> Directions:
    shape = len(decoder_layers(model)[1]) + 1, width(model)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return Directions(torch.nn.functional.normalize(noise, dim=1))


def gains(model: nn.Module, sites: Sequence[Site]) -> dict[str, Tensor]:
    downstream = {site.module: site.downstream for site in sites}
    found = {
        name: each.gain for name, each in downstream.items() if isinstance(each, MeasuredGain) and each.gain is not None
    }
    norms = {name: each.name for name, each in downstream.items() if isinstance(each, PostNorm)}
    return found | {module: measured_gain(model.get_submodule(norm), width(model)) for module, norm in norms.items()}


def compiled(model: nn.Module, sites: Sequence[Site], mode: str) -> ModelEdit:
    vectors, known = directions(model), gains(model, sites)
    stats = {s.module: weight_stats(site_weight(model, s), vectors.vectors, known.get(s.module)) for s in sites}
    return compile_edit(parameters(sites, len(vectors.vectors) - 1), vectors, sites, stats, mode)


def _hooks_equal_merge(model: nn.Module, sites: Sequence[Site], mode: str) -> float:
    """The largest difference of the logits of hooked and merged weights, as a share of what the edit changes; also
    for two candidates in one batch."""
    edit, tokens = compiled(model, sites, mode), ids()
    before = logits(model, tokens)
    with edited_model(model, [edit], sites):
        hooked = logits(model, tokens)
    with edited_model(model, [{}, edit], sites) as applied:
        applied.assign(torch.tensor([1, 0, 1]))
        mixed = logits(model, tokens)
    kept = {site.module: site_weight(model, site).clone() for site in sites}
    for site in sites:
        weight = site_weight(model, site)
        weight.copy_(edit_weight(edit[site.module], weight.float()))
    merged = logits(model, tokens)
    for site in sites:
        site_weight(model, site).copy_(kept[site.module])
    expected = torch.stack([merged[0], before[1], merged[2]])
    share = max(_share(hooked, merged, before), _share(mixed, expected, before))
    if not share < TOLERANCE:
        raise AssertionError(f"hooked and merged logits differ by {share:.1e} of the change (row_normalization {mode})")
    return share


def _share(first: Tensor, second: Tensor, before: Tensor) -> float:
    moved = float((second - before).abs().max())
    if moved < 1e-4:
        raise AssertionError("the edit changes nothing")
    return float((first - second).abs().max()) / moved


def _exports(model: Any, sites: Sequence[Site]) -> float:
    """Writes the model with and without an edit, and loads it again; the reloaded logits' difference as a share."""
    with tempfile.TemporaryDirectory() as directory:
        base, copy, edited = (Path(directory) / name for name in ("base", "copy", "edited"))
        model.save_pretrained(base)
        vectors = directions(model)
        edit_of = edit_from(
            parameters(sites, len(vectors.vectors) - 1), StudyTensors(vectors, gains(model, sites)), "full"
        )
        merge(open_checkpoint(base), copy, sites, lambda *_: None)
        _check_same(base, copy, set())
        merge(open_checkpoint(base), edited, sites, edit_of)
        _check_same(base, edited, None)
        original = type(model).from_pretrained(base, dtype=torch.float32).eval()
        reloaded = type(model).from_pretrained(edited, dtype=torch.float32).eval()
    with torch.inference_mode():
        before = logits(original, ids())
        if not torch.allclose(before, logits(model, ids()), atol=1e-4):
            raise Unbuildable("transformers loads other weights than it has saved, without heretic")
        with edited_model(original, [compiled(original, sites, "full")], sites):
            hooked = logits(original, ids())
        share = _share(logits(reloaded, ids()), hooked, before)
    if not share < TOLERANCE:
        raise AssertionError(f"the reloaded export's logits differ by {share:.1e} of the change")
    return share


def _check_same(base: Path, written: Path, differing: set[str] | None) -> None:
    """Same keys, and the same bytes but where an edit is (`differing` None: somewhere)."""
    first, second = open_checkpoint(base), open_checkpoint(written)
    keys = [info.key for info in first.tensors()]
    if sorted(keys) != sorted(info.key for info in second.tensors()):
        raise AssertionError("the export has other keys than the base")
    changed = {key for key in keys if bytes(raw_bytes(first.read(key))) != bytes(raw_bytes(second.read(key)))}
    if changed != differing if differing is not None else not changed:
        raise AssertionError(f"bytes differ in {sorted(changed)[:3]} of the export")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


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
    if importlib.util.find_spec("torchvision"):
        # A wheel for CUDA has no operators on a machine without it, and importing it asks for these by name.
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
