"""The page docs/coverage.md, from the rows that tools/family_coverage.py has measured."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiny_models import causal_families

if TYPE_CHECKING:
    from family_coverage import Row

# Families that a publisher has released since 2023, by the beginning of their model type.
PUBLISHERS: dict[str, tuple[str, ...]] = {
    "Meta": ("llama", "llama4", "llama4_text", "mllama", "cwm", "chameleon", "perception_lm", "blt", "muse_spark"),
    "Qwen": ("qwen",),
    "Google": ("gemma", "recurrent_gemma", "vaultgemma", "paligemma", "shieldgemma2", "diffusion_gemma", "t5gemma"),
    "Mistral": ("mistral", "mixtral", "ministral"),
    "Microsoft": ("phi", "kosmos", "bitnet"),
    "DeepSeek": ("deepseek", "janus"),
    "Zhipu": ("glm",),
    "OpenAI": ("gpt_oss",),
    "NVIDIA": ("nemotron", "cosmos3"),
    "IBM": ("granite", "bamba"),
    "AI2": ("olmo", "flex_olmo", "molmo"),
    "LG": ("exaone",),
    "Liquid": ("lfm",),
    "Hugging Face": ("smollm3", "smolvlm", "idefics"),
}

GRADIENT = 0.05
"""Largest error of a gradient that is right: finite differences in float32 are no better than some hundredths."""

HEAD = """# Coverage

Which model families work, measured. Written by `python tools/family_coverage.py` (transformers {version},
torch {torch}); don't edit it.

For each model type of transformers' `AutoModelForCausalLM`, and for the further ones of `AutoModelForImageTextToText`,
a tiny random model is made from the family's own default configuration, with small sizes and one layer of each kind. A
family works if all of this holds in float32:

1. The sites are found and proved, and nothing else writes to the residual stream.
2. In all three row normalisations, the hooked model's logits are those of the model with edited weights, alone and with
   two candidates in one batch.
3. An export without an edit has the keys and bytes of its base. An export with an edit has the same keys, and loaded
   again it gives the logits of the hooked model.
4. The program's whole job ends well: it searches two trials, exports one, loads what it wrote, and finds the metrics of
   the search.

The error is the largest difference of logits in 2 and 3, as a share of the change that the edit makes. The limit is
{tolerance:.0e}. A family that fails names the step: sites, edits, export or whole job.

The gradient is that of a learned edit (`method = "learned"`): its difference from a finite difference, as a share of
the larger one, by the best of some step sizes. The last column says how many families have one below {gradient:.0%}. A
study of a model whose gradients are missing or wrong is searched with the method `kernel` instead.

Not counted, by rule: encoder-decoders (`is_encoder_decoder` of the configuration, or layers that attend to an encoder);
encoders (a later token changes the logits of earlier positions); models without logits of tokens. Families whose tiny
model can't be made or run here are listed with the reason, and are not counted either.
"""


def write_page(rows: Sequence["Row"], path: Path) -> None:
    text = causal_families()
    parts = [
        HEAD.format(
            version=importlib.metadata.version("transformers"),
            torch=importlib.metadata.version("torch").split("+")[0],
            tolerance=1e-3,
            gradient=GRADIENT,
        ),
        _summary([row for row in rows if row.family in text], "Causal language models"),
        _summary([row for row in rows if row.family not in text], "Further models of images and text"),
        _publishers(rows),
        _table("Working", [row for row in rows if row.outcome == "works"]),
        _reasons("Failing", [row for row in rows if row.outcome == "fails"]),
        _reasons("Not built", [row for row in rows if row.outcome == "not built"]),
        _reasons("Excluded by rule", [row for row in rows if row.outcome == "excluded"]),
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def _summary(rows: Sequence["Row"], title: str) -> str:
    count = {outcome: sum(row.outcome == outcome for row in rows) for outcome in ("works", "fails", "not built")}
    excluded = len(rows) - sum(count.values())
    built = count["works"] + count["fails"]
    return (
        f"**{title}:** {count['works']} of {built} decoder families work ({count['works'] / max(built, 1):.1%}); "
        f"{count['not built']} could not be built, {excluded} are excluded by rule.\n"
    )


def _publishers(rows: Sequence["Row"]) -> str:
    lines = ["## By publisher", "", "| Publisher | Works | Does not |", "| --- | --- | --- |"]
    for publisher, beginnings in PUBLISHERS.items():
        own = [row for row in rows if row.family.startswith(beginnings) and row.outcome != "excluded"]
        works = ", ".join(row.family for row in own if row.outcome == "works")
        fails = ", ".join(f"{row.family} ({row.outcome})" for row in own if row.outcome != "works")
        lines.append(f"| {publisher} | {works} | {fails} |")
    return "\n".join([*lines, ""])


def _table(title: str, rows: Sequence["Row"]) -> str:
    right = sum(_is_right(row.gradient) for row in rows)
    last = f"Gradient ({right} of {len(rows)})"
    lines = [f"## {title}", "", f"| Family | Components | Layers | Error | {last} |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row.family} | {', '.join(row.components)} | {', '.join(row.layer_classes)} | {row.error:.0e} "
        f"| {_plain(row.gradient[:80])} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


def _is_right(gradient: str) -> bool:
    try:
        return float(gradient) < GRADIENT
    except ValueError:
        return False


def _reasons(title: str, rows: Sequence["Row"]) -> str:
    lines = [f"## {title}", "", "| Family | Reason |", "| --- | --- |"]
    lines += [f"| {row.family} | {_plain(row.reason)} |" for row in rows]
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("<", "&lt;").replace("`", "'")
