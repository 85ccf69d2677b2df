"""The command lines of the README and the guide, run one after the other on the planted model.

path/to/model is that model here, config.toml fits it, OWNER/NAME is a repository of a fake server of the hub,
and numbers of trials are small. What can't be run here is named, with the reason.
"""

import io
import itertools
import json
import random
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from heretic.cli.entry import VERBS, main
from heretic.study.pareto import pareto_front
from heretic.study.reader import RecordedStudy
from tests.support.hub_server import OWNER, TOKEN, Hub, running_hub
from tests.support.pages import TOLD_TO_USERS, command_lines

TRIALS = 19
NOT_RUN = {
    "Qwen/": "the hub's models can't be reached",
    "--preset hub": "the hub's data sets can't be reached",
    "model-Q4_K_M.gguf": "test_smollm2.py runs a GGUF file",
    "--gguf-type": "GGUF has no tokenizer of the planted model's kind; tests/export runs it",
    "heretic benchmark": "tests/report and tests/commands run it",
    "heretic ui": "tests/web runs it, in a browser",
    "heretic MODEL": "an example with a model of one's own choice",
    "--max-memory": "no GPU",
    "path/to/quantised": "the tests of quantised checkpoints run it",
    "--measure-thinking": "400 response tokens are more than the planted model's context",
}
LETTERS = ["".join(pair) for pair in itertools.product("bdfgklmnprst", "aeiou", "bdfgklmnprst")]
SMALL = {"--n-trials": str(TRIALS), "--n-startup-trials": "2"}


def documented() -> list[str]:
    lines = [shlex.join(words) for page in TOLD_TO_USERS for words in command_lines(page.read_text(encoding="utf-8"))]
    return list(dict.fromkeys(lines))


RUN = [line for line in documented() if not any(part in line for part in NOT_RUN)]


@pytest.fixture(scope="module")
def world(planted_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory as the pages assume it, with a study and what it wrote."""
    directory = tmp_path_factory.mktemp("world")
    shutil.copytree(planted_directory / "planted", directory / "path" / "to" / "model")
    lines = ['dtypes = ["float32"]', 'system_prompt = "none"', "batch_size = 64", "max_response_length = 4"]
    lines += ["n_startup_trials = 2", "heldout_trials = 0"]
    for side in ("good", "bad"):
        shutil.copy(planted_directory / f"{side}_direction.txt", directory / f"{side}.txt")
        shutil.copy(planted_directory / f"{side}_search.txt", directory / f"{side}_test.txt")
        lines += [f'{side}_prompts = "{side}.txt"', f'{side}_evaluation_prompts = "{side}_test.txt"']
    (directory / "few.toml").write_text("\n".join([*lines, "n_trials = 3"]))
    (directory / "many.toml").write_text("\n".join([*lines, f"n_trials = {TRIALS}"]))
    words = random.Random(0)
    rows = [json.dumps({"question": " ".join(words.choices(LETTERS, k=12))}) for _ in range(700)]
    (directory / "prompts.jsonl").write_text("\n".join(rows))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(directory)
        assert main(["path/to/model", "--config", "many.toml", "--output", "path/to/edited"]) == 0
        assert main(["export", "--export", "adapter", "--output", "path/to/adapter"]) == 0
        assert main(["report", "--no-model"]) == 0
        shutil.copytree("checkpoints", "recorded")
        yield directory


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def fitted(words: list[str], front: list[int]) -> list[str]:
    """The command's words for this world."""
    for number, word in enumerate(words[:-1]):
        if word in SMALL:
            words[number + 1] = SMALL[word]
        elif word == "--trial" and words[number + 1].isdecimal():
            words[number + 1] = str(front[0])
    return [word.replace("OWNER/NAME", f"{OWNER}/edited").replace("5,2", "17,4") for word in words]


def make_room(words: list[str]) -> None:
    """Where the command writes, nothing is in the way; where it reads, there is what it reads."""
    searches = not any(word in VERBS for word in words[:1])
    goes_on = "--resume" in words or "--trial" in words
    for place in ("checkpoints", "demo/checkpoints"):
        shutil.rmtree(place, ignore_errors=True)
        if not searches or goes_on:
            shutil.copytree("recorded", place)
    shutil.copy("many.toml" if goes_on else "few.toml", "config.toml")
    shutil.copy("few.toml", "other.toml")
    outputs = [words[number + 1] for number, word in enumerate(words[:-1]) if word == "--output"]
    for output in [*outputs, "model-heretic", "reproduced", "again"]:
        shutil.rmtree(output, ignore_errors=True)
    for part in Path().glob("prompts.*.jsonl"):
        part.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_a_documented_command_runs(
    line: str, world: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(line)
    variables = [word for word in words if re.match(r"HERETIC_\w+=", word)]
    study = RecordedStudy(next(Path("recorded").glob("*.jsonl")))
    front = [trial.number for trial in pareto_front(study.trials, study.baseline)]
    arguments = fitted(words[len(variables) + 1 :], front)
    for variable in variables:
        name, value = variable.split("=", 1)
        monkeypatch.setenv(name, SMALL.get("--" + name.removeprefix("HERETIC_").replace("_", "-").lower(), value))
    monkeypatch.setattr("sys.stdin", io.StringIO("word1 trigger1\n"))
    make_room(arguments)
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    printed = capsys.readouterr()
    assert status == 0, printed.err
    if "--upload" in line or line.startswith("heretic upload"):
        assert "README.md" in hub.repositories[f"{OWNER}/edited"]


def test_most_commands_are_run() -> None:
    assert len(RUN) > 30
    unused = {part for part in NOT_RUN if not any(part in line for line in documented())}
    assert unused == set()
