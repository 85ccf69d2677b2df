"""End to end on a real chat model: SmolLM2-135M-Instruct, from the GGUF file that `make model` fetches."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from heretic.cli import main
from heretic.model.loading.demo_model import demo_model
from tests.support.packaged import disclaimer


@pytest.mark.slow
def test_a_real_model_declines_less_and_is_written_as_it_was_searched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "edited"
    sizes = {"prompts": "direction[:32]", "evaluation-prompts": "search[:16]"}
    prompts = [
        word
        for side in ("good", "bad")
        for name, split in sizes.items()
        for word in (f"--{side}-{name}", disclaimer(side, split))
    ]
    flags = {
        "--system-prompt": "none",
        "--batch-size": "48",
        "--n-trials": "3",
        "--n-startup-trials": "3",
        "--max-response-length": "24",
        "--trial": "lowest-refusals",
        "--output": str(output),
    }
    status = main([str(demo_model()), *prompts, *(word for flag in flags.items() for word in flag)])
    log = capsys.readouterr().err
    assert status == 0, log
    manifest = json.loads((output / "heretic.json").read_text())
    assert manifest["baseline"]["metrics"]["refusals"]["value"] >= 6, "a third of these prompts, at least, are declined"
    assert manifest["trial"]["metrics"]["refusals"]["value"] <= manifest["baseline"]["metrics"]["refusals"]["value"] / 4
    assert manifest["trial"]["metrics"]["kl_divergence"]["value"] < 0.5
    assert "searched" in log and "written" in log
    model = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(output)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    answer = model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids.input_ids.shape[1] :]
    # What a strongly edited model of this size knows is another matter: it must speak, and not repeat itself.
    assert len(set(answer.tolist())) > 6
    assert "sorry" not in tokenizer.decode(answer).lower()
