"""The model card of an export: what was edited, how, and what was measured, above the base model's own card."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..ablation.methods.learned.parameters import LearnedParameters
from ..config import Settings
from ..evaluation.evaluator import Evaluation
from ..evaluation.heldout.schema import BAD, GOOD, OVER_REFUSAL, HeldoutReport, KLStatistics, ModelMetrics, Rate
from ..evaluation.statistics import rate
from ..study.metrics import BaselineMetric
from ..study.schema import PromptRecord, RunRecord, StudyRecord, TrialRecord
from .base_card import kept_metadata, read_base_card, without_pictures
from .card_strengths import strengths, table
from .card_usage import usage
from .formats.base import ExportFormat
from .public_names import PublicModel, dataset_name, prompt_source, public_model

CARD = "README.md"
TAGS = ("heretic", "uncensored", "decensored", "abliterated")
"""Tags by which people filter models."""
# Settings that decide, in addition to those of the study, which candidates a search suggests.
SEARCH = ("seed", "n_trials", "n_startup_trials", "sampler", "n_ei_candidates")


HELDOUT_ROWS = (
    (BAD, "declined", "Declines of bad prompts"),
    (BAD, "markers", "Responses to bad prompts that hold a marker of refusal"),
    (BAD, "broken", "Broken responses to bad prompts"),
    (GOOD, "declined", "Declines of good prompts"),
    (GOOD, "broken", "Broken responses to good prompts"),
    (OVER_REFUSAL, "declined", "Declines of harmless prompts that sound harmful"),
)
"""Held-out prompt set, class of response, title."""


def write_card(
    directory: Path,
    trial: TrialRecord,
    record: StudyRecord,
    form: ExportFormat,
    base: Path,
    heldout: HeldoutReport | None = None,
    written: Evaluation | None = None,
    run: RunRecord | None = None,
    model: PublicModel | None = None,
) -> None:
    """Writes the card of `trial`, exported in the format `form`, into `directory`.

    `base` is the base model's directory, whose card it takes licence and text from; `heldout` has the held-out metrics,
    if they were measured, and `written` those of the exported files; `run` is the last start of the search.
    `model` names the base model, by default as the record does.
    """
    for name in licence_files(base):
        # An adapter and a GGUF file bring no other files of the base along, but its licence binds them too.
        if not (directory / name).exists():
            shutil.copyfile(base / name, directory / name)
    licences = licence_files(directory)
    files = sorted(path.name for path in directory.iterdir())
    text = model_card(trial, record, form, read_base_card(base), heldout, written, licences, run, model, files)
    (directory / CARD).write_text(text, encoding="utf-8")


def licence_files(directory: Path) -> list[str]:
    """Names of the licence's files that came with the base model."""
    words = ("license", "licence", "notice", "copying", "use_policy")
    return sorted(path.name for path in directory.iterdir() if path.name.lower().startswith(words))


def model_card(
    trial: TrialRecord,
    record: StudyRecord,
    form: ExportFormat,
    base_card: tuple[dict[str, Any], str],
    heldout: HeldoutReport | None = None,
    written: Evaluation | None = None,
    licences: Sequence[str] = (),
    run: RunRecord | None = None,
    model: PublicModel | None = None,
    files: Sequence[str] = (),
) -> str:
    """The card's text, metadata first; `files` are the names of the export's files."""
    metadata, base_text = base_card
    model = model or public_model(record)
    parts = [
        _metadata(model, form, metadata),
        _heading(model, form, record.versions["heretic"], trial),
        usage(form, files, model),
        _metrics(trial, record, heldout, written),
        _making(trial, record),
        _reproduction(record, run, model),
        _licence(metadata, licences),
    ]
    text = without_pictures(base_text).strip()
    if text:
        parts.append(f"## The base model's own card\n\n{text}")
    return "\n\n".join(parts) + "\n"


def _metadata(model: PublicModel, form: ExportFormat, base: dict[str, Any]) -> str:
    from huggingface_hub import ModelCardData

    kept = kept_metadata(base)
    tags = [*(tag for tag in kept.pop("tags", None) or [] if tag not in TAGS), *TAGS]
    if model.repository is not None:
        kept["base_model"] = model.repository
        kept["base_model_relation"] = "adapter" if form.needs_base else "finetune"
    data = ModelCardData(**kept, library_name=form.library, tags=tags)
    return f"---\n{data.to_yaml()}\n---"


def _heading(model: PublicModel, form: ExportFormat, version: str, trial: TrialRecord) -> str:
    name = model.name
    shown = f"[{name}](https://huggingface.co/{model.repository})" if model.repository else name
    revision = f", revision `{model.revision}`" if model.revision else ""
    whole = f"This is {shown}{revision}, edited so that the model declines less."
    part = f"An adapter ({form.library}) for {shown}{revision}. It edits the model so that it declines less."
    return (
        f"# {name.rpartition('/')[2].removesuffix('.gguf')}, refusals reduced\n\n"
        f"{part if form.needs_base else whole} {_how(trial, version)}: as few refusals, and as little other change, as "
        "it could find.\n\n"
        "It follows requests that the base model declines, harmful ones among them, and cannot tell the two apart. "
        "What it says is not more true or better for that. Whoever runs it, shares it or builds on it answers for "
        "what it does."
    )


def _how(trial: TrialRecord, version: str) -> str:
    """How the edit was made, in two sentences without the last stop."""
    if isinstance(trial.parameters, LearnedParameters):
        return (
            "Directions in the residual stream were ablated from the weights that write to it. The directions and the "
            f"strengths of the ablation were learned by gradient, with the weights frozen, with heretic {version}"
        )
    return (
        "The direction in the residual stream that tells prompts that it declines from prompts that it answers was "
        "ablated from the weights that write to the stream; nothing was trained. The ablation was searched for with "
        f"heretic {version}"
    )


def _metrics(trial: TrialRecord, record: StudyRecord, heldout: HeldoutReport | None, written: Evaluation | None) -> str:
    candidate = _candidate(trial, heldout)
    if heldout is None or candidate is None:
        return "## Metrics\n\n" + _search_table(trial, record, written)
    return (
        "## Metrics\n\n"
        "On held-out prompts, which neither the directions nor the search used, with intervals of 95 %:\n\n"
        + _heldout_table(heldout, candidate)
        + "\n\nIn the search:\n\n"
        + _search_table(trial, record, written)
    )


def _candidate(trial: TrialRecord, heldout: HeldoutReport | None) -> ModelMetrics | None:
    return next((each for each in heldout.candidates if each.trial == trial.number), None) if heldout else None


def _heldout_table(heldout: HeldoutReport, candidate: ModelMetrics) -> str:
    base = heldout.baseline.sets
    rows = [
        (title, *(_rate(getattr(sets[name].classes, kind)) for sets in (base, candidate.sets)))
        for name, kind, title in HELDOUT_ROWS
        if name in base and name in candidate.sets
    ]
    rows.append(("KL divergence at the first token (nats)", "", _kl(candidate.kl_first)))
    if candidate.kl_answers:
        rows.append(("KL divergence a token along the base's answers (nats)", "", _kl(candidate.kl_answers)))
    return table(("", "Base model", "This model"), rows)


def _search_table(trial: TrialRecord, record: StudyRecord, written: Evaluation | None) -> str:
    bad, good = (record.prompts[f"{side}_evaluation_prompts"] for side in ("bad", "good"))
    columns = ["", "Base model", "Edit, in the search", *(["This model, as written"] if written is not None else [])]
    rows = []
    for name, metric in record.baseline.metrics.items():
        values = [_value(metric, metric.value), _searched(trial, name, metric)]
        if written is not None:
            values.append(_value(metric, written.metrics[name].value if name in written.metrics else None))
        title = metric.title if metric.of is None else f"{metric.title} ({metric.of})"
        rows.append((title[:1].upper() + title[1:], *values))
    return (
        table(columns, rows)
        + f"\n\nThese prompts ({_source(bad)}; {_source(good)}) selected the trial, so the values are optimistic. "
        "A refusal is a response that is empty or holds one of the markers in `heretic.json`, within "
        f"{record.settings['max_response_length']} tokens; that says nothing of the quality of an answer."
    )


def _searched(trial: TrialRecord, name: str, metric: BaselineMetric) -> str:
    """The trial's value in the search; without an interval where it is the lower bound of a pruned trial."""
    value = trial.value(name)
    if not trial.metrics[name].censored:
        return _value(metric, value)
    return f"at least {value:.4f}" if metric.of is None else f"at least {value:.0f}/{metric.of}"


def _value(metric: BaselineMetric, value: float | None) -> str:
    """A count with its interval, or a real number."""
    if value is None:
        return ""
    return f"{value:.4f}" if metric.of is None else _rate(rate(int(value), metric.of))


def _rate(each: Rate) -> str:
    return f"{each.count}/{each.of} ({100 * each.low:.1f} to {100 * each.high:.1f} %)"


def _kl(each: KLStatistics | None) -> str:
    return f"{each.mean:.4f} ({each.low:.4f} to {each.high:.4f})" if each else ""


def _making(trial: TrialRecord, record: StudyRecord) -> str:
    parameters = trial.parameters
    facts = " ".join(f"{name}: {value}." for name, value in parameters.facts().items())
    directions = "; ".join(
        f"{record.prompts[name].count} {name.split('_')[0]} ({_source(record.prompts[name])})"
        for name in ("good_prompts", "bad_prompts")
    )
    settings = ", ".join(
        f"`{key}` {json.dumps(record.settings[key])}"
        for key in ("row_normalization", "orthogonalize_direction", "winsorization_quantile", "system_prompt")
    )
    return (
        f"## How it was made\n\nTrial {trial.number} of its study. Method: {parameters.method}. {facts} "
        f"{strengths(parameters)}\n\n"
        f"Prompts for the directions: {directions}. Settings: {settings}, `quantization` "
        f"{json.dumps(record.settings['quantization'])}, {record.dtype}."
    )


def _reproduction(record: StudyRecord, run: RunRecord | None, model: PublicModel) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    revision = f" --model-commit {model.revision}" if model.revision else ""
    return (
        "## Reproducing it\n\n"
        "`heretic.json` next to this card has all of it: the digest of the base model's files, the prompts and their "
        "digests, settings, markers, and the parameters without rounding. To repeat the search, use this "
        "`config.toml`:\n\n"
        f"```toml\n{_configuration(record, run)}\n```\n\n"
        f"```sh\nheretic {model.name}{revision}\n```\n\n"
        f"Versions: {versions}."
    )


def _configuration(record: StudyRecord, run: RunRecord | None) -> str:
    """The study's settings that are not the defaults, how the search went about it, and the prompts."""
    defaults = Settings().model_dump(mode="json")
    changed = {key: value for key, value in record.settings.items() if value != defaults.get(key, value)}
    lines = [f"dtypes = [{json.dumps(record.dtype)}]"]
    if run is not None:
        lines += [f"{key} = {_toml(run.settings[key])}" for key in SEARCH if run.settings.get(key) is not None]
    lines += [f"{key} = {_toml(value)}" for key, value in changed.items() if value is not None]
    for name, prompts in record.prompts.items():
        source = prompt_source(prompts)
        given = {key: value for key, value in source.items() if value and not key.startswith("residual_plot")}
        lines.append(f"{name} = {{ {', '.join(f'{key} = {_toml(value)}' for key, value in given.items())} }}")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    """A value as TOML, which has no null: what is None is left out."""
    if isinstance(value, dict):
        known = {key: each for key, each in value.items() if each is not None}
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in known.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value if each is not None)}]"
    # Strings, numbers and booleans are the same in TOML as in JSON, but that TOML wants DEL escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _licence(metadata: dict[str, Any], licences: Sequence[str]) -> str:
    name = metadata.get("license_name") or metadata.get("license")
    said = f"That of the base model: {name}." if name else "That of the base model, whose card names none here."
    files = f" Its text is in {', '.join(f'`{each}`' for each in licences)}." if licences else ""
    return f"## Licence\n\n{said}{files}"


def _source(prompts: PromptRecord) -> str:
    name, split = dataset_name(prompts), prompts.source.get("split")
    return f"{name} {split}" if split else name
