"""What the documentation says can be typed, followed and found."""

import math
import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from heretic.ablation.methods.kernel.space import (
    INDEX_RANGE,
    LEAST_DISTANCE,
    MOST_DISTANCE,
    POSITION_RANGE,
    WEIGHT_RANGE,
)
from heretic.cli.registry import VERBS, build_parser
from heretic.commands.demo import demo_flags
from heretic.config import PromptSource, Settings, given_flags, load_settings
from heretic.config.parsing import choices
from heretic.config.renamed import RENAMED, WITHOUT_MEANING
from heretic.engine.learning.path import LearningSettings
from heretic.errors import ConfigError
from heretic.evaluation.statistics import rate
from heretic.session.forecast import BYTES, ROOM
from heretic.study.schema import TrialRecord
from heretic.ui.menus import MORE_LEARNED
from tests.support.pages import FENCE, PAGES, ROOT, TOLD_TO_USERS, command_lines, fenced, inline

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:work|root|home|tmp|mnt|Users)/|\.\./shared|[A-Z]:\\")
SETTING = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")
PROGRAM_FILE = re.compile(r"[\w./-]+\.(?:py|toml|md)(?:::\w+)?")

KEYS = {*Settings.model_fields, *RENAMED, *WITHOUT_MEANING, *PromptSource.model_fields}
# Words with an underscore that are values of a key, or fields of what the program writes.
OTHER_WORDS = {word for field in Settings.model_fields.values() for word in choices(field.annotation)}
OTHER_WORDS |= set(TrialRecord.model_fields)
OTHER_FLAGS = {
    "config",
    "against",
    "json",
    "trial",
    "trials",
    "tasks",
    "limit",
    "samples",
    "search",
    "page",
    "no_model",
    "prompt",
    "public",
    "help",
    "version",
}


@pytest.fixture(autouse=True)
def clean_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No config.toml and no HERETIC_ variable of this machine counts."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("HERETIC_")]:
        monkeypatch.delenv(name)


def problem(words: list[str], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What is wrong with a command line: an unknown or shortened flag, a missing argument, a value that can't be."""
    start = words.index("heretic") + 1
    verb = words[start] if words[start:] and words[start] in VERBS else ""
    with monkeypatch.context() as patched:
        for variable in words[: start - 1]:
            patched.setenv(*variable.split("=", 1))
        try:
            namespace = build_parser(verb).parse_args(words[start + 1 :] if verb else words[start:])
            _, warnings = load_settings(given_flags(namespace))
        except SystemExit as ended:
            # --help and --version end here, without a complaint.
            return None if ended.code == 0 else "argparse refuses it"
        except ConfigError as error:
            return str(error)
    return warnings[0] if warnings else None


def anchors(page: Path) -> set[str]:
    """The names that the headings of a page can be linked by."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if "://" in link:
            continue
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    return broken


def unknown_keys(text: str) -> set[str]:
    """Words in back-ticks that look like a key and are none; `key = value`, `HERETIC_KEY` and `--flag` too."""
    found = set()
    for code in inline(text):
        name = code.split()[0].partition("=")[0] if code.startswith("--") else code.partition("=")[0].strip()
        if name.startswith(("HERETIC_", "--")):
            name = name.removeprefix("HERETIC_").removeprefix("--").replace("-", "_").lower()
            known = not name or name in KEYS or name in OTHER_FLAGS
        else:
            known = SETTING.fullmatch(name) is None or name in KEYS | OTHER_WORDS
        if not known:
            found.add(code)
    return found


def missing_files(text: str) -> list[str]:
    """Files and tests in back-ticks that are neither in the repository nor in the program's source."""
    missing = []
    words = {word for code in inline(text) for word in code.split() if PROGRAM_FILE.fullmatch(word) and "/" in word}
    # `commands/VERB.py` and `test_b_ASPECT.py` stand for any name.
    words = {word for word in words if not re.search(r"[A-Z]{2,}", word)}
    for word in sorted(words):
        name, _, test = word.partition("::")
        path = next((base / name for base in (ROOT, ROOT / "src" / "heretic") if (base / name).is_file()), None)
        if path is None or (test and f"def {test}(" not in path.read_text(encoding="utf-8")):
            missing.append(word)
    return missing


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_line_parses(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = list(command_lines(page.read_text(encoding="utf-8")))
    assert {shlex.join(words): found for words in lines if (found := problem(words, monkeypatch))} == {}


def test_there_are_command_lines_to_parse() -> None:
    assert all(len(list(command_lines(page.read_text(encoding="utf-8")))) > 10 for page in TOLD_TO_USERS)


@pytest.mark.parametrize(
    "line",
    [
        "heretic model --n-trails 3",
        "heretic model --n-tri 3",
        "heretic model --trial best",
        "heretic model --output",
        "heretic model other",
        "heretic evaluate --against base",
        "heretic results --trial knee",
        'heretic evaluate edited --bad-evaluation-prompts \'{"datasets": "x"}\'',
        "HERETIC_N_TRAILS=3 heretic model",
    ],
)
def test_a_wrong_command_line_is_noticed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [words] = command_lines(f"```sh\n{line}\n```\n")
    assert problem(words, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_and_test_that_is_named_exists(page: Path) -> None:
    assert missing_files(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_path_is_of_one_machine(page: Path) -> None:
    assert MACHINE_PATH.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", TOLD_TO_USERS, ids=named)
def test_every_key_that_is_named_exists(page: Path) -> None:
    assert unknown_keys(page.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("page", TOLD_TO_USERS, ids=named)
def test_every_configuration_loads(page: Path, tmp_path: Path) -> None:
    blocks = fenced(page.read_text(encoding="utf-8"), "toml")
    assert blocks
    for block in blocks:
        assert tomllib.loads(block)
        (tmp_path / "config.toml").write_text(block, encoding="utf-8")
        assert load_settings({})[1] == []


def test_what_is_broken_is_noticed() -> None:
    readme = ROOT / "README.md"
    assert broken_links(readme, "[a](docs/none.md) [b](README.md#none) [c](LICENSE)") == [
        "docs/none.md",
        "README.md#none",
    ]
    assert unknown_keys("`n_trails` `n_trials` `seeds = 3` `HERETIC_SEED_S` `--n-trial` `bnb_4bit` `knee`") == {
        "n_trails",
        "HERETIC_SEED_S",
        "--n-trial",
    }
    assert missing_files("`pytest tests/test_documentation.py::test_none` `model/none.py` `model/layers.py`") == [
        "model/none.py",
        "tests/test_documentation.py::test_none",
    ]
    for path in ("/home/me/model", "see /tmp/main", "../shared/SPEC.md", r"C:\models"):
        assert MACHINE_PATH.search(path)
    assert not MACHINE_PATH.search("~/.cache/heretic path/to/home/me")


def test_every_package_is_in_the_layout() -> None:
    layout = "\n".join(fenced((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), "text"))
    packages = {path.parent.name for path in (ROOT / "src" / "heretic").glob("*/__init__.py")}
    assert {package for package in packages if f"  {package}/ " not in layout} == set()


def test_the_readme_says_what_the_demo_does() -> None:
    readme, flags = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split()), demo_flags()
    defaults = Settings()
    assert f"learns edits for at most {flags['time_budget'].removesuffix('m')} minutes" in readme
    assert "n_trials" not in flags
    assert defaults.time_budget is None and "by default there is no limit" in readme
    assert LearningSettings().candidates == MORE_LEARNED == 8 and "eight edits that are learned" in readme
    assert "max_response_length" not in flags, "the README says that this is the program's own"
    assert flags["output"] in readme and f"prompts `{flags['preset']}`" in readme


def test_the_readme_computes_memory_as_doctor_does() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) billion \| ([\d.]+) GB \| ([\d.]+) GB \|$", readme, re.MULTILINE)
    assert len(rows) > 3
    for billions, half, quarter in rows:
        assert half == f"{float(billions) * BYTES['none'] * ROOM:.1f}"
        assert quarter == f"{float(billions) * BYTES['bnb_4bit'] * ROOM:.1f}"


def test_the_method_page_has_the_spaces_ranges_and_the_intervals_are_wilsons() -> None:
    method = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    for low, high in (INDEX_RANGE, POSITION_RANGE):
        assert f"| {low:g} L to {high:.1f} L |" in method
    assert f"| {WEIGHT_RANGE[0]:g} to {WEIGHT_RANGE[1]:g} |" in method
    assert f"| {LEAST_DISTANCE:g} to {MOST_DISTANCE:g} L |" in method
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    three, none = rate(3, 100), rate(0, 100)
    assert f"{100 * three.low:.1f} to {100 * three.high:.1f} %" in page
    assert f"up to {100 * none.high:.1f} %" in page


def test_the_method_page_has_the_constants_of_a_learned_path() -> None:
    page, path = " ".join((ROOT / "docs" / "method.md").read_text(encoding="utf-8").split()), LearningSettings()
    rows = path.good_rows + path.bad_rows + path.refusal_rows + path.loop_rows
    assert f"{path.first_steps} steps at lambda {path.lambdas[0]:g}, the others {path.steps} steps" in page
    assert f"a step has {rows} rows" in page
    assert "Lambda is {:g}, {:g} and {:g} at the first three".format(*path.lambdas[: path.warm_up]) in page
    none, few, some, many = (f"{factor:g}" for _, factor in path.factors)
    low, high = (f"{100 * share:g} %" for share, _ in path.factors[1:-1])
    assert f"times {none} if none is, {few} up to {low}, {some} up to {high}, and {many} above" in page
    assert f"K = {path.scored} of the first {path.answer_tokens} tokens" in page
    assert f"p(refusal) + {path.margin:g}" in page and f"p(loop) + {path.loop_margin:g}" in page


def test_the_bounds_of_a_kl_divergence_are_pinskers() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d.]+) \| (\d+) % \|$", page, re.MULTILINE)
    assert len(rows) > 3
    assert [percent for _, percent in rows] == [f"{100 * math.sqrt(float(kl) / 2):.0f}" for kl, _ in rows]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 190
