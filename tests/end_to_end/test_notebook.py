"""notebooks/heretic.ipynb from its first cell to its last, on the demo's model with few prompts."""

from pathlib import Path

import pytest

from heretic.model.loading.demo_model import demo_model
from tests.support.packaged import disclaimer

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "heretic.ipynb"


def small_settings() -> str:
    """The cell of settings for a run of seconds."""
    parts = {"prompts": "direction[:8]", "evaluation_prompts": "search[:4]"}
    more = {f"{side}_{name}": disclaimer(side, split) for side in ("good", "bad") for name, split in parts.items()}
    more |= {"system_prompt": "none", "batch_size": 8, "heldout_trials": 0, "max_response_length": 8}
    more |= {"n_trials": 2, "n_startup_trials": 1}
    values = {"MODEL": str(demo_model()), "QUANTIZATION": "none", "DTYPES": ["float32"]}
    values |= {"OUTPUT": "edited", "UPLOAD_TO": "", "MORE": more}
    return "\n".join(f"{name} = {value!r}" for name, value in values.items())


@pytest.mark.slow
def test_the_notebook_runs_and_uploads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    [settings] = [cell for cell in notebook.cells if "settings" in cell.metadata.get("tags", ())]
    given = {line.partition(" = ")[0] for line in settings.source.splitlines()}
    settings.source = small_settings()
    assert given == {line.partition(" = ")[0] for line in settings.source.splitlines()}
    for cell in notebook.cells:
        cell.source = cell.source.replace("max_tokens=100", "max_tokens=8")
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "edited" / "config.json").is_file()
    assert "Nothing is uploaded" in str(notebook.cells[-1].outputs)
    assert 'UPLOAD_TO = ""' in NOTEBOOK.read_text(encoding="utf-8").replace("\\", ""), "off by default"


def test_the_notebook_is_kept_without_outputs() -> None:
    nbformat = pytest.importorskip("nbformat")
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
