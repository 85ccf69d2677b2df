"""The model card: what it must say, and what it must not."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from heretic.config import Settings, load_settings
from heretic.evaluation.heldout.schema import BAD, GOOD, Classes, HeldoutReport, KLStatistics, ModelMetrics, SetMetrics
from heretic.evaluation.statistics import rate
from heretic.export.base_card import read_base_card
from heretic.export.card import _toml, model_card, write_card
from heretic.export.formats.merge import Merge
from heretic.export.formats.registry import find_format
from heretic.export.manifest import manifest_of
from heretic.export.public_names import public_model
from heretic.study.schema import PromptRecord, RunRecord, TrialRecord
from tests.support import study_toys as toys
from tests.support.cards import BASE_CARD, TRIAL, parsed, record
from tests.support.learned_trials import learned_parameters
from tests.support.scorers import evaluation


def card(trial: TrialRecord = TRIAL, export: str = "merge", base: str = BASE_CARD, **changes: Any) -> tuple[Any, str]:
    """(metadata, text) of the card over a base card."""
    heldout, run = changes.pop("heldout", None), changes.pop("run", None)
    text = model_card(trial, record(**changes), find_format(export), parsed(base), heldout, run=run)
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def classes(declined: int, of: int = 50) -> Classes:
    return Classes(
        declined=rate(declined, of),
        answered=rate(of - declined, of),
        broken=rate(0, of),
        markers=rate(declined, of),
        unfinished=rate(0, of),
        reasons={},
    )


def heldout_report(number: int) -> HeldoutReport:
    kl = KLStatistics(
        prompts=50,
        infinite=0,
        mean=0.1111,
        median=0.1,
        trimmed_mean=0.1,
        standard_error=0.01,
        low=0.0999,
        high=0.1333,
        worst=1.0,
        worst_prompt=0,
        worst_share=0.2,
    )

    def on(declined: int) -> SetMetrics:
        return SetMetrics(
            classes=classes(declined), declined_against_baseline=None, markers_against_baseline=None, responses=[]
        )

    def model(trial: int | None, declined: int) -> ModelMetrics:
        return ModelMetrics(
            trial=trial,
            sets={BAD: on(declined), GOOD: on(0)},
            log_odds=None,
            kl_first=None if trial is None else kl,
            kl_answers=None,
            search={},
        )

    return HeldoutReport(
        model="org/model",
        prompts={},
        settings={},
        max_response_length=100,
        null_kl_first=kl,
        null_kl_answers=None,
        baseline=model(None, 41),
        candidates=[model(number, 2)],
        pairs=[],
        selection_bias=None,
    )


def test_the_base_models_licence_and_text_are_kept() -> None:
    metadata, text = card()
    assert (metadata["license"], metadata["license_name"], metadata["license_link"]) == (
        "other",
        "some-licence",
        "LICENSE",
    )
    assert metadata["language"] == ["en", "de"] and metadata["pipeline_tag"] == "text-generation"
    assert set(metadata["tags"]) == {"chat", "heretic", "uncensored", "decensored", "abliterated"}
    assert "It was trained on $5 of data. {{ braces }}" in text
    assert "some-licence" in text.partition("## Licence")[2].partition("##")[0]


def test_what_was_measured_of_the_base_is_not_said_of_the_edited_model() -> None:
    metadata, _ = card()
    assert not {"model-index", "datasets"} & set(metadata)


@pytest.mark.parametrize(
    ("export", "relation", "library"), [("merge", "finetune", "transformers"), ("adapter", "adapter", "peft")]
)
def test_the_base_model_and_its_revision_are_named(export: str, relation: str, library: str) -> None:
    metadata, text = card(export=export)
    assert metadata["base_model"] == "org/model"
    assert (metadata["base_model_relation"], metadata["library_name"]) == (relation, library)
    assert "revision `abc`" in text


def test_a_model_of_this_machine_is_named_without_its_path() -> None:
    prompts = record().prompts | {
        "bad_evaluation_prompts": PromptRecord(
            source={"dataset": "/home/me/private/prompts.txt", "split": None}, count=100, digest="aa"
        )
    }
    path = "/home/me/models/base.gguf"
    metadata, text = card(model=path, model_path=path, gguf_file="base.gguf", model_revision=None, prompts=prompts)
    assert "base_model" not in metadata
    assert "base.gguf" in text and "prompts.txt" in text
    assert "/home" not in text
    assert "base_model" not in card(model="owner/name", model_revision=None)[0], "a local directory of that name"


def test_every_parameter_and_version_stands_in_it() -> None:
    _, text = card()
    for value in ("Trial 17", "layer 7.00", "`attn.o_proj` | 1.0000 | 9.0000 | 0.5000 | 3.0000", "torch 2.13.0"):
        assert value in text


def test_the_searchs_metrics_have_intervals_and_a_warning() -> None:
    _, text = card()
    assert "80/100 (71.1 to 86.7 %)" in text, "Wilson's interval of 80 of 100"
    assert "3/100 (1.0 to 8.5 %)" in text and "0.1234" in text
    assert "optimistic" in text


def test_a_learned_edit_is_not_called_untrained() -> None:
    _, text = card(TRIAL.model_copy(update={"parameters": learned_parameters()}))
    assert "learned by gradient, with the weights frozen, with heretic" in text and "nothing was trained" not in text
    assert "nothing was trained. The ablation was searched for with heretic" in card()[1]


def test_the_lower_bound_of_a_pruned_trial_is_none_of_its_values() -> None:
    _, text = card(TRIAL.model_copy(update={"metrics": toys.metrics(3, 0.1234, pruned=True)}))
    assert "at least 3/100 |" in text and "3/100 (" not in text and "| 0.1234 |" in text


def test_heldout_metrics_come_first_if_they_were_measured() -> None:
    _, text = card(heldout=heldout_report(17))
    assert "41/50 (69.2 to 90.2 %)" in text and "2/50 (1.1 to 13.5 %)" in text
    assert "0.1111 (0.0999 to 0.1333)" in text
    assert text.index("41/50") < text.index("80/100")
    _, other = card(heldout=heldout_report(18))
    assert "41/50" not in other, "those are another trial's"


def test_the_configuration_in_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = record().settings | {"system_prompt": 'Say "yes".\nOr not: \\', "refusal_markers": ["désolé"]}
    ran = Settings().model_dump(mode="json") | {"seed": 7, "n_trials": 30, "n_startup_trials": 11, "sampler": "random"}
    run = RunRecord(started="2026-01-01T00:00:00+00:00", settings=ran, versions={}, hardware={})
    _, text = card(settings=changed, run=run)
    block = text.partition("```toml\n")[2].partition("```")[0]
    assert tomllib.loads(block)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(block, encoding="utf-8")
    settings, warnings = load_settings({})
    assert warnings == []
    assert (settings.system_prompt, settings.refusal_markers) == (changed["system_prompt"], ["désolé"])
    assert settings.bad_prompts is not None and settings.bad_prompts.split == "prompts"
    # The same candidates again need the same seed, and the same share of random ones.
    searched = (settings.seed, settings.n_trials, settings.n_startup_trials, settings.sampler)
    assert searched == (7, 30, 11, "random")


@pytest.mark.parametrize(
    "content", ["", "# No head\n", "---\n[: no yaml\n---\n# Text\n", "---\n- a list\n---\n# Text\n"]
)
def test_a_base_card_of_any_kind_is_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "README.md").write_text(content)
    metadata, text = read_base_card(tmp_path)
    assert metadata == {}
    assert content.rpartition("---\n")[2].strip() in text


def test_the_written_card_names_the_licences_files_and_the_written_metrics(tmp_path: Path) -> None:
    base, output = tmp_path / "base", tmp_path / "output"
    base.mkdir()
    output.mkdir()
    (base / "README.md").write_text(BASE_CARD)
    (output / "LICENSE.txt").write_text("...")
    written = evaluation(4, 0.1299)
    write_card(output, TRIAL, record(baseline=toys.BASELINE), Merge(), base, None, written)
    text = (output / "README.md").read_text()
    assert "`LICENSE.txt`" in text and "4/100" in text and "0.1299" in text


def test_what_is_true_of_the_bases_own_page_alone_is_left_out() -> None:
    keys = "new_version: org/two\nthumbnail: a.png\nwidget: []\nextra_gated_prompt: Agree\nextra_gated_fields: {}\n"
    metadata, _ = card(base=BASE_CARD.replace("---\n", f"---\n{keys}", 1))
    assert not [key for key in metadata if key.startswith(("new_version", "thumbnail", "widget", "extra_gated"))]


@pytest.mark.parametrize("languages", ["no", "[no, en]"])
def test_norwegian_stays_a_language(languages: str) -> None:
    metadata, _ = card(base=BASE_CARD.replace("[en, de]", languages))
    assert "no" in metadata["language"]


def test_what_the_chat_template_was_given_is_in_the_configuration() -> None:
    settings = record().settings | {"chat_template_arguments": {"thinking": False, "effort": "low"}}
    _, body = card(settings=settings)
    configuration = tomllib.loads(body.split("```toml\n")[1].split("```")[0])
    assert configuration["chat_template_arguments"] == {"thinking": False, "effort": "low"}


@pytest.mark.parametrize("export", ["merge", "adapter", "gguf"])
def test_the_licence_goes_along(export: str, tmp_path: Path) -> None:
    base, output = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    output.mkdir()
    (base / "LICENSE.txt").write_text("Terms.")
    (base / "README.md").write_text(BASE_CARD)
    write_card(output, TRIAL, record(), find_format(export), base)
    assert (output / "LICENSE.txt").read_text() == "Terms."
    assert "`LICENSE.txt`" in (output / "README.md").read_text()


@pytest.mark.parametrize(
    "value",
    ["a\x7fb", '\u2028\u0001\t"', [1, "a", None], [{"a": [True]}], {"x": None, "y": {"z": 1.5}}, "\U0001f600", []],
)
def test_settings_are_written_as_toml_that_parses(value: object) -> None:
    def known(each: object) -> object:
        if isinstance(each, dict):
            return {key: known(value) for key, value in each.items() if value is not None}
        return [known(one) for one in each if one is not None] if isinstance(each, list) else each

    assert tomllib.loads(f"key = {_toml(value)}") == {"key": known(value)}


def test_the_card_names_the_base_model_that_the_user_gives() -> None:
    local = record(model="models/mine", model_path="/home/me/models/mine", model_revision=None)
    model = public_model(local, "owner/name")
    text = model_card(TRIAL, local, find_format("adapter"), parsed(BASE_CARD), model=model)
    metadata = yaml.safe_load(text.split("---\n", 2)[1])
    assert (metadata["base_model"], metadata["base_model_relation"]) == ("owner/name", "adapter")
    assert "[owner/name](https://huggingface.co/owner/name)" in text
    assert "heretic owner/name\n" in text
    assert "mine" not in text
    assert manifest_of(TRIAL, local, model).base_model == "owner/name"
