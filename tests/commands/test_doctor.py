"""`heretic doctor`: what it finds is what is there."""

import json
from pathlib import Path

import psutil
import pytest

from heretic.cli import main
from tests.support.accelerators import FakeAccelerator, use_accelerator
from tests.support.hub_server import OWNER, TOKEN, running_hub


def findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, str]]:
    assert main(["doctor", "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1
    return {each["name"]: each for each in found["findings"]}


def test_it_tells_memory_versions_and_what_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = findings(capsys)
    assert f"of {psutil.virtual_memory().total / 1e9:.1f} GB" in found["memory"]["value"]
    assert found["torch"]["value"] and "cores" in found["CPU"]["value"]
    billions = {name: float(found[name]["value"].split()[4]) for name in ("4 bits", "16 bits", "32 bits")}
    assert billions["4 bits"] > billions["16 bits"] > billions["32 bits"] > 0


def test_a_model_that_does_not_fit_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    use_accelerator(monkeypatch, None)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(10**12)  # a hole: it takes no room
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "model.gguf").write_bytes(b"x" * 1000)
    big = findings(capsys, str(tmp_path))
    assert "about 500 billion parameters, 1000.0 GB on disk" in big["size"]["value"]
    assert "does not fit" in big["memory in 4 bits"]["value"] and "no quantization" in str(big["advice"]["problem"])
    small = findings(capsys, str(tmp_path / "small"))
    assert "advice" not in small and "fits" in small["memory in 4 bits"]["value"]
    assert "8 learned edits: under a minute" in small["time"]["value"]
    assert "200 trials: under a minute" in small["time of a sampler"]["value"]
    assert "no weights" in findings(capsys, "org/model")["size"]["value"]


def test_it_tells_who_is_logged_in_and_never_the_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert findings(capsys)["login"]["value"] == OWNER
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        found = findings(capsys)["login"]
        assert found["value"] == "refused" and "hf auth login" in str(found["problem"])
        assert main(["doctor"]) == 0
        text = "".join(capsys.readouterr())
        assert "Warning: login" in text and "hf_wrong" not in text and TOKEN not in text
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    assert "no (" in findings(capsys)["reachable"]["value"]


def test_it_plans_the_memory_of_a_model_on_a_gpu(
    planted_directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    use_accelerator(monkeypatch, FakeAccelerator("xpu"))
    found = findings(capsys, str(planted_directory / "planted"))
    assert found["GPU 0"]["value"] == "Example xpu 0 (xpu), 5.0 GB free of 8.0 GB"
    for quantization in ("none", "bnb_8bit", "bnb_4bit"):
        assert "32 candidates a forward on GPU 0" in found[f"quantization = {quantization}"]["value"]
    use_accelerator(monkeypatch, None)
    assert "quantization = none" not in findings(capsys, str(planted_directory / "planted"))
