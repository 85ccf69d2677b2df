"""End to end on architectures other than Llama's: mixtures of experts, hybrids, post-norms, several streams, images and
text. From the command line to a written model, which has the metrics of the search."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_model

from heretic.cli import main
from tests.support.custom import write_custom_experts
from tests.support.planted import ANSWERS, ANSWERS_BEHIND, TRIGGERS, WORDS, planted_tokenizer

# A random model answers in random words: half of them count as refusals, so that there is something to remove.
MARKERS = ["--refusal-markers", ",".join([*WORDS[::2], *ANSWERS[::2], *TRIGGERS, ANSWERS_BEHIND])]

MEASURING = (
    "--good-evaluation-prompts",
    "--bad-evaluation-prompts",
    "--system-prompt",
    "--dtypes",
    "--batch-size",
    "--max-response-length",
    "--refusal-markers",
)


def write_model(family: str, directory: Path) -> None:
    if family == "a module per expert":
        write_custom_experts(directory)
    else:
        model = tiny_model(family)
        # Only words that the tokenizer has.
        model.get_output_embeddings().weight[len(planted_tokenizer()) :] = 0.0
        model.save_pretrained(directory)
    planted_tokenizer().save_pretrained(directory)


def same_measuring(flags: list[str]) -> list[str]:
    """Those of a run's flags that say how a model is measured."""
    return [part for pair in zip(flags[::2], flags[1::2], strict=True) for part in pair if pair[0] in MEASURING]


def changed_keys(base: Path, written: Path) -> set[str]:
    first, second = load_file(base / "model.safetensors"), load_file(written / "model.safetensors")
    assert first.keys() == second.keys()
    return {key for key in first if not torch.equal(first[key], second[key])}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("modules_of_its_own")
@pytest.mark.parametrize(
    ("family", "edited"),
    [
        ("qwen3_moe", ("self_attn.o_proj", "down_proj")),
        ("a module per expert", ("self_attn.o_proj", "down_proj")),
        ("qwen3_5_text", ("self_attn.o_proj", "linear_attn.out_proj", "down_proj")),
        ("lfm2", ("self_attn.out_proj", "conv.out_proj", "feed_forward.w2")),
        ("olmo2", ("self_attn.o_proj", "down_proj")),
        ("gemma2", ("self_attn.o_proj", "down_proj")),
        ("deepseek_v4", ("attn.wo_b", "w2")),
        ("qwen3_vl", ("self_attn.o_proj", "down_proj")),
        ("jetmoe", ("output_linear",)),
        ("zaya", ("self_attn.o_proj", "down_proj")),
    ],
)
def test_the_whole_job(
    family: str, edited: tuple[str, ...], planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, output = tmp_path / "base", tmp_path / "edited"
    write_model(family, base)
    flags = [*planted_flags, *MARKERS, "--n-trials", "6", "--n-startup-trials", "4"]
    trust = ["--trust-remote-code"] if family == "a module per expert" else []
    if family == "jetmoe":
        # Its experts attend, so that rows of two candidates can't be distinguished in their cache.
        assert main([str(base), *flags, "--candidates-per-forward", "2", "--resume", "restart"]) == 2
        assert "--candidates-per-forward 1" in capsys.readouterr().err
        flags += ["--candidates-per-forward", "1", "--resume", "restart"]
    assert main([str(base), *flags, *trust, "--trial", "lowest-refusals", "--output", str(output)]) == 0
    trial = json.loads((output / "heretic.json").read_text())["trial"]
    capsys.readouterr()
    assert main(["evaluate", str(output), "--against", str(base), "--json", *same_measuring(flags), *trust]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["refusals"] == trial["metrics"]["refusals"]["value"]
    assert measured["kl_divergence"] == pytest.approx(trial["metrics"]["kl_divergence"]["value"], abs=1e-4)
    assert trial["metrics"]["kl_divergence"]["value"] > 1e-4
    changed = changed_keys(base, output)
    assert changed
    assert all(any(part in key for part in edited) for key in changed), changed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("modules_of_its_own")
@pytest.mark.parametrize("family", ["mixtral", "a module per expert"])
def test_only_the_chosen_experts_are_written(family: str, planted_flags: list[str], tmp_path: Path) -> None:
    base, output = tmp_path / "base", tmp_path / "edited"
    write_model(family, base)
    flags = [*planted_flags, *MARKERS, "--n-trials", "3", "--n-startup-trials", "2", "--experts", "1,3"]
    trust = ["--trust-remote-code"] if family == "a module per expert" else []
    assert main([str(base), *flags, *trust, "--trial", "lowest-refusals", "--output", str(output)]) == 0
    experts = {key.split("experts.")[1][0] for key in changed_keys(base, output) if "experts." in key}
    assert experts == {"1", "3"}
    # A later export takes the study's own choice.
    [study] = (tmp_path / "checkpoints").glob("*.jsonl")
    later = tmp_path / "later"
    assert main(["export", str(study), "--trial", "0", "--output", str(later), *trust]) == 0
    assert {key.split("experts.")[1][0] for key in changed_keys(base, later) if "experts." in key} <= {"1", "3"}
