"""A record grants no permission: no journal, report or manifest runs code, sends secrets, uploads or decides paths."""

import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import heretic
from heretic.cli import main
from heretic.config import Settings
from heretic.errors import ModelError
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.digest import whole_digest
from heretic.study.journal import tensors_path
from heretic.study.reader import RecordedStudy
from heretic.ui.plain import PlainReporter
from heretic.web.service import StudyService
from tests.support.custom import add_code
from tests.support.hub_server import OWNER, TOKEN, Hub, running_hub

pytestmark = pytest.mark.usefixtures("modules_of_its_own")
Content = dict[str, Any]
SECRET = "hf_SECRET" + "x" * 30


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("word1 trigger1\n"))


@pytest.fixture
def journal(short_study: Path, tmp_path: Path) -> Path:
    """A copy of a study of the planted model that a test may change."""
    shutil.copy(tensors_path(short_study), tensors_path(tmp_path / "copied.jsonl"))
    return Path(shutil.copy(short_study, tmp_path / "copied.jsonl"))


@pytest.fixture
def evil(planted_directory: Path, tmp_path: Path) -> Path:
    """The planted model with code of its own: when the code runs, `evil`/ran appears."""
    directory = tmp_path / "evil"
    shutil.copytree(planted_directory / "planted", directory)
    add_code(directory)
    return directory


def rewrite(journal: Path, change: Callable[[Content], None]) -> Path:
    """Applies `change` to the attributes of the study in a journal."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        change(line.get("user_attr", {}))
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return journal


def add_settings(settings: Content) -> Callable[[Content], None]:
    """A change that puts settings into the record and into every recorded start."""

    def change(attributes: Content) -> None:
        for record in [attributes.get("heretic"), *attributes.get("heretic runs", [])]:
            if record is not None:
                record["settings"] |= settings

    return change


def name_model(directory: Path) -> Callable[[Content], None]:
    def change(attributes: Content) -> None:
        record = attributes.get("heretic")
        if record is not None:
            checkpoint = Checkpoint(str(directory), directory)
            digests = {"model_digest": checkpoint.digest(), "files_digest": whole_digest(checkpoint)}
            record |= {"model": str(directory), "model_path": str(directory), **digests}

    return change


@pytest.fixture
def evil_journal(journal: Path, evil: Path) -> Path:
    """A journal that names the model with code, and says that the code may run."""
    return rewrite(rewrite(journal, name_model(evil)), add_settings({"trust_remote_code": True}))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("flags", [[], ["--no-trust-remote-code"]])
@pytest.mark.parametrize(
    "command", [["chat"], ["compare", "--prompt", "word1"], ["export", "--output", "out"], ["report"], ["reproduce"]]
)
def test_a_journal_does_not_run_code(
    command: list[str], flags: list[str], evil_journal: Path, evil: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *others = command
    printed = refused(capsys, verb, str(evil_journal), *others, *flags)
    assert "trust_remote_code = true" in printed and "ignored" in printed
    # The model and its code are named, and nothing was loaded.
    assert str(evil) in printed and "modeling_odd.py" in printed and "Loading" not in printed
    assert not (evil / "ran").exists()


def test_benchmark_does_not_run_code(evil_journal: Path, evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lm_eval")
    assert "modeling_odd.py" in refused(capsys, "benchmark", str(evil_journal), "--tasks", "heretic-facts")
    assert not (evil / "ran").exists()


def test_python_and_the_page_do_not_run_code(evil_journal: Path, evil: Path) -> None:
    with pytest.raises(ModelError, match="needs code of its own"):
        heretic.open_study(evil_journal).open()
    with pytest.raises(ModelError, match="needs code of its own"):
        StudyService(evil_journal, Settings(), PlainReporter(io.StringIO())).opened()
    assert not (evil / "ran").exists()


def test_a_report_and_a_manifest_do_not_run_code(
    journal: Path, evil: Path, planted_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(journal), "--output", "edited"]) == 0
    manifest = json.loads(Path("edited/heretic.json").read_text())
    checkpoint = Checkpoint(str(evil), evil)
    manifest |= {"base_model": str(evil), "base_model_digest": checkpoint.digest()}
    manifest["base_model_files_digest"] = whole_digest(checkpoint)
    manifest["settings"]["trust_remote_code"] = True
    Path("edited/heretic.json").write_text(json.dumps(manifest))
    rewrite(rewrite(journal, name_model(evil)), add_settings({"trust_remote_code": True}))
    assert main(["report", str(journal), "--no-model", "--page", "evil.html"]) == 0
    # A manifest names no directory of its author's machine: prompts have to be given.
    sets = {"-": "direction", "-evaluation-": "search"}
    files = [
        f"--{side}{part}prompts={planted_directory}/{side}_{name}.txt"
        for side in ("good", "bad")
        for part, name in sets.items()
    ]
    for record in ("evil.json", "edited"):
        for flags in ([], ["--no-trust-remote-code"]):
            assert "modeling_odd.py" in refused(capsys, "reproduce", record, *files, *flags)
    assert not (evil / "ran").exists()


def test_the_users_own_yes_counts(evil_journal: Path, evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", str(evil_journal), "--trust-remote-code", "--tokens", "2"]) == 0
    assert (evil / "ran").exists()


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[str]]]:
    """An address that a record names as a judge's, and the keys that arrived there."""
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            keys.append(self.headers.get("Authorization", ""))
            body = json.dumps({"choices": [{"message": {"content": "answered"}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", keys
    server.shutdown()
    server.server_close()


@pytest.fixture
def measured_journal(planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> Path:
    """A study with held-out metrics, whose responses a judge could read."""
    flags = [f"--{side}-heldout-prompts={planted_directory}/{side}_report.txt" for side in ("good", "bad")]
    assert main([str(planted_directory / "planted"), *planted_flags, *flags, "--n-trials", "6"]) == 0
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    return journal


def test_a_record_sends_no_variable_of_the_environment(
    measured_journal: Path,
    endpoint: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, keys = endpoint
    monkeypatch.setenv("HF_TOKEN", SECRET)
    judge = {"endpoint": address, "model": "x", "key_variable": "HF_TOKEN"}
    rewrite(measured_journal, add_settings({"judges": [judge]}))
    assert main(["report", str(measured_journal), "--no-model", "--page", "evil.html"]) == 0
    report = json.loads(Path("evil.json").read_text())
    assert report["runs"][-1]["settings"]["judges"] == [judge]
    capsys.readouterr()
    assert main(["reproduce", "evil.json"]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert keys == []
    assert address in printed and "ignored" in printed
    # A judge that the user names is asked, and is named before anything is loaded.
    mine = json.dumps([{"endpoint": address, "model": "mine", "key_variable": "NO_KEY"}])
    arguments = ["reproduce", "evil.json", "--study-checkpoint-dir", "again", "--judges", mine]
    assert main(arguments) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert keys and not any(SECRET in key for key in keys)
    assert printed.index(f"mine at {address}") < printed.index("Loading")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_a_journal_publishes_nothing(
    journal: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wishes = {"upload": f"{OWNER}/leaked", "upload_public": True, "output": "elsewhere", "study_checkpoint_dir": "x"}
    rewrite(journal, add_settings(wishes))
    assert main(["export", str(journal), "--output", "out"]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert hub.repositories == {} and hub.calls == []
    assert "upload = " in printed and "ignored" in printed
    assert Path("out/config.json").exists()
    assert main(["reproduce", str(journal), "--study-checkpoint-dir", "again"]) == 0
    assert hub.calls == [] and not Path("elsewhere").exists() and not Path("x").exists()


def test_a_damaged_setting_is_an_error_that_names_the_record(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(journal, add_settings({"winsorization_quantile": "much"}))
    printed = refused(capsys, "chat", str(journal))
    assert "winsorization_quantile" in printed and "copied.jsonl" in printed and "a number" in printed


def test_an_authors_permission_and_judges_are_not_recorded(
    evil: Path, planted_flags: list[str], tmp_path: Path
) -> None:
    flags = ["--trust-remote-code", "--n-trials", "2", "--heldout-trials", "0", "--export", "none"]
    judges = '[{"endpoint": "http://10.0.0.1/v1", "key_variable": "MY_KEY"}]'
    assert main([str(evil), *planted_flags, *flags, "--judges", judges]) == 0
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    text = journal.read_text()
    assert RecordedStudy(journal).runs[-1].settings["seed"] == 0
    for word in ("trust_remote_code", "MY_KEY", "10.0.0.1", "study_checkpoint_dir", "upload"):
        assert word not in text
