"""Thinking models are measured on their answers, whether template or model opens the thought, and with any marker."""

from pathlib import Path

import pytest

from heretic.config import Settings
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import no_progress
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.prompts.prompt import Prompt
from heretic.session.context import ModelSession
from heretic.session.engine import wrap_engine
from heretic.session.prompts import NO_PROMPTS
from tests.support.planted import planted_prompts
from tests.support.recorders import Recorder
from tests.support.thinking import THINKERS, Thinker, thinking_model

GOOD = [Prompt(text) for text in planted_prompts(8, False, seed=3)]
BAD = [Prompt(text) for text in planted_prompts(8, True, seed=3)]
SWITCH = "{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}"


def engine_of(thinker: Thinker, reporter: Recorder, template: str | None = None, **settings: object) -> LocalEngine:
    model, tokenizer = thinking_model(thinker)
    if template is not None:
        tokenizer.chat_template = template
    loaded = LoadedModel(Checkpoint("tiny", Path()), model, tokenizer, ())
    chosen = Settings.model_validate({"system_prompt": "none", "batch_size": 8, "max_response_length": 8} | settings)
    return wrap_engine(loaded, session_of(loaded, chosen, reporter), [*GOOD, *BAD])


def session_of(loaded: LoadedModel, settings: Settings, reporter: Recorder) -> ModelSession:
    return ModelSession(settings, NO_PROMPTS, loaded.checkpoint, reporter)


def said(engine: LocalEngine, prompts: list[Prompt]) -> set[str]:
    return {response.text for response in engine.generate(prompts, [{}], 8, None, no_progress)[0]}


def first_tokens(engine: LocalEngine, prompts: list[Prompt]) -> set[str]:
    first = engine.first_token_log_probabilities(prompts, [{}], no_progress)[0].argmax(dim=-1)
    return set(engine.chat.tokenizer.convert_ids_to_tokens(first.tolist()))


@pytest.mark.parametrize("name", THINKERS)
def test_refusals_and_divergence_are_those_of_the_answer(name: str) -> None:
    reporter = Recorder()
    engine = engine_of(THINKERS[name], reporter)
    assert (said(engine, GOOD), said(engine, BAD)) == ({"surehere"}, {"sorrycannot"})
    assert (first_tokens(engine, GOOD), first_tokens(engine, BAD)) == ({"sure"}, {"sorry"})
    assert not reporter.warnings


@pytest.mark.parametrize("name", THINKERS)
def test_thoughts_are_measured_if_asked_for(name: str) -> None:
    engine = engine_of(THINKERS[name], Recorder(), measure_thinking=True)
    assert (first_tokens(engine, GOOD), first_tokens(engine, BAD)) == ({"hmm"}, {"well"})


THINKER = THINKERS["opened by the model"]


def asking(text: str) -> str:
    """The template with this text after the assistant's role."""
    return THINKER.template.replace("}}{% endif %}", "}}" + text + "{% endif %}")


SWITCHES = {
    "the rest of the prompt": (asking(SWITCH), "<think></think>", {}),
    "another system message": (
        "{% if enable_thinking is defined and not enable_thinking %}{{ '<system> word9 ' }}{% endif %}"
        + asking(SWITCH),
        "",
        {"enable_thinking": False},
    ),
    "an opened thought": (
        asking("{{ '<think>' + ('</think>' if reasoning is defined and not reasoning else '') }}"),
        "</think>",
        {},
    ),
    "a thought that is left open": (
        asking("{% if enable_thinking is defined and not enable_thinking %}{{ '<think> ' }}{% endif %}"),
        "<think> </think>",
        {},
    ),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_the_templates_own_switch_ends_the_thought(name: str) -> None:
    template, prefix, arguments = SWITCHES[name]
    engine = engine_of(THINKER, Recorder(), template)
    assert engine.chat.response_prefix == prefix
    assert engine.profile.template_arguments == arguments
    assert first_tokens(engine, BAD) == {"sorry"}


def test_thinking_that_a_template_has_off_can_be_measured() -> None:
    template = asking("{% if not enable_thinking %}{{ '<think></think>' }}{% endif %}")
    assert first_tokens(engine_of(THINKER, Recorder(), template), BAD) == {"sorry"}
    thinking = engine_of(THINKER, Recorder(), template, measure_thinking=True)
    assert thinking.profile.template_arguments == {"enable_thinking": True}
    assert first_tokens(thinking, BAD) == {"well"}


def test_arguments_of_the_user_are_given() -> None:
    template, _, arguments = SWITCHES["another system message"]
    engine = engine_of(THINKER, Recorder(), template, chat_template_arguments=arguments)
    assert "word9" in engine.chat.render(BAD[0])


def test_a_thought_without_an_end_is_warned_of() -> None:
    endless = Thinker("<my_thoughts>", "mhm", "<assistant><my_thoughts>")
    reporter = Recorder()
    engine_of(endless, reporter)
    assert ["inside a chain of thought" in warning for warning in reporter.warnings] == [True]


def test_a_later_engine_is_given_arguments_date_and_prefix() -> None:
    dated = "{{ strftime_now('%Y ') }}" + asking(SWITCH)
    chosen = {"chat_template_date": "2026-01-31", "chat_template_arguments": {"word": "word1"}}
    engine = engine_of(THINKER, Recorder(), dated, **chosen)
    known = engine.profile
    assert (known.template_date, known.template_arguments) == ("2026-01-31", {"word": "word1"})
    later = wrap_engine(engine.loaded, session_of(engine.loaded, Settings(system_prompt="none"), Recorder()), [], known)
    assert later.profile == known
    assert [later.chat.render(each) for each in BAD] == [engine.chat.render(each) for each in BAD]
    assert engine_of(THINKER, Recorder(), asking(SWITCH)).profile.template_date is None
