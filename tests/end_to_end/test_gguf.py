"""A GGUF model stays one, and llama.cpp runs it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from heretic.cli import main
from heretic.config import PromptSource
from heretic.config.defaults import REFUSAL_MARKERS
from heretic.evaluation.scorers.refusals import MarkerClassifier
from heretic.model.loading.demo_model import demo_model
from heretic.prompts.loading import load_prompts
from tests.support.packaged import disclaimer


def refusals_in_llama_cpp(model: Path, prompts: Sequence[str]) -> int:
    """How many responses hold a marker, as llama.cpp itself generates them."""
    xllamacpp: Any = pytest.importorskip("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_ctx, parameters.n_parallel = 512, 1
    # Its threads wait for each other busily.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    holds = MarkerClassifier(REFUSAL_MARKERS).holds_marker
    count = 0
    for prompt in prompts:
        asked = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 32, "temperature": 0}
        count += holds(server.handle_chat_completions(asked)["choices"][0]["message"]["content"])
    return count


@pytest.mark.slow
def test_llama_cpp_runs_the_edited_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = {"prompts": "direction[:32]", "evaluation-prompts": "search[:12]"}
    prompts = [
        word
        for side in ("good", "bad")
        for name, split in sizes.items()
        for word in (f"--{side}-{name}", disclaimer(side, split))
    ]
    flags = ["--system-prompt", "none", "--batch-size", "48", "--n-trials", "2", "--n-startup-trials", "2"]
    flags += ["--max-response-length", "24", "--response-prefix", "", "--trial", "lowest-refusals"]
    flags += ["--export", "gguf", "--output", "edited"]
    status = main([str(demo_model()), *prompts, *flags, "--heldout-trials", "0"])
    log = capsys.readouterr().err
    assert status == 0, log
    [written] = Path("edited").glob("*.gguf")
    manifest = json.loads(Path("edited/heretic.json").read_text())
    assert manifest["trial"]["metrics"]["refusals"]["value"] < manifest["baseline"]["metrics"]["refusals"]["value"] / 2
    bad = load_prompts(PromptSource(dataset="packaged:disclaimer", split="search[:12]", column="bad"))
    texts = [prompt.text for prompt in bad.prompts]
    before = refusals_in_llama_cpp(demo_model(), texts)
    assert before >= 3
    assert refusals_in_llama_cpp(written, texts) < before / 2
