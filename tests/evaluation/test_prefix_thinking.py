"""Models that think, with templates in the shape of real families', each small enough to read."""

from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest
from tokenizers import decoders

from heretic.config.defaults import CHAIN_OF_THOUGHT_SKIPS
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import no_progress
from heretic.evaluation.prefix import close_opened, find_response_prefix, spoken
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.prompts.prompt import Prompt
from heretic.session.response_prefix import SampledModel
from tests.support import planted
from tests.support.planted import planted_prompts

ROLES = "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' ' }}{% endfor %}"
ASKING = "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
ANSWER = {"sure": "here", "here": "<end>", "sorry": "cannot", "cannot": "<end>"}
THOUGHT = {"<think>": "hmm", "hmm": "well", "well": "</think>"}


@dataclass(frozen=True)
class Family:
    """What a model says word by word, and where its answer begins, of which a trigger makes a refusal."""

    template: str
    following: dict[str, str]
    answers_behind: str
    prefix: str
    special: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)


FAMILIES = {
    # The model opens its thought itself; opener and closer are ordinary tokens.
    "qwen3": Family(
        ROLES + ASKING,
        {"<assistant>": "<think>", **THOUGHT, "</think>": "sure"},
        "</think>",
        "<think></think>",
        plain=["<think>", "</think>"],
    ),
    # The template opens it.
    "deepseek-r1": Family(
        ROLES + "{% if add_generation_prompt %}{{ '<assistant><think>\n' }}{% endif %}",
        {**THOUGHT, "</think>": "sure"},
        "</think>",
        "</think>",
        plain=["<think>", "</think>"],
    ),
    # Opener and closer are special tokens, which a response's text is without.
    "magistral": Family(
        ROLES + ASKING,
        {"<assistant>": "[THINK]", "[THINK]": "hmm", "hmm": "well", "well": "[/THINK]", "[/THINK]": "sure"},
        "[/THINK]",
        "[THINK][/THINK]",
        special=["[THINK]", "[/THINK]"],
    ),
    # Channels: the answer is in the one called final.
    "gpt-oss": Family(
        ROLES + "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}",
        {"assistant": "<|channel|>", "<|channel|>": "analysis", "analysis": "<|message|>", "<|message|>": "sure"},
        "<|message|>",
        dict(CHAIN_OF_THOUGHT_SKIPS)["<|channel|>analysis<|message|>"],
        special=["<|start|>", "<|channel|>", "<|message|>", "<|end|>"],
        plain=["assistant", "analysis", "final"],
    ),
    # A channel that is forced, and no thought.
    "forced channel": Family(
        ROLES + ASKING,
        {"<assistant>": "<|channel|>", "<|channel|>": "final", "final": "<|message|>", "<|message|>": "sure"},
        "<|message|>",
        "<|channel|>final<|message|>",
        special=["<|channel|>", "<|message|>"],
        plain=["final"],
    ),
    # The thought is closed already, as templates do where thinking is switched off.
    "qwen3, not thinking": Family(
        ROLES + "{% if add_generation_prompt %}{{ '<assistant><think>\n\n</think>\n\n' }}{% endif %}",
        {**THOUGHT, "</think>": "sure"},
        "</think>",
        "",
        plain=["<think>", "</think>"],
    ),
    "plain": Family(ROLES + ASKING, {"<assistant>": "sure"}, "<assistant>", ""),
}


def engine_of(family: Family) -> LocalEngine:
    thoughts = [word for word in ("hmm", "well") if word in family.following]
    words = [*planted.VOCABULARY, *family.special, *family.plain, *thoughts]
    with patch.multiple(
        planted,
        VOCABULARY=words,
        NEXT=family.following | ANSWER,
        ANSWERS_BEHIND=family.answers_behind,
        TEMPLATE=family.template,
    ):
        model, _ = planted.planted_model()
        tokenizer = planted.planted_tokenizer()
    tokenizer.backend_tokenizer.decoder = decoders.Fuse()
    tokenizer.add_tokens(["<assistant>", *family.plain])
    tokenizer.add_special_tokens({"additional_special_tokens": family.special})
    assert len(tokenizer) == len(words)
    loaded = LoadedModel(Checkpoint("tiny", Path()), model, tokenizer, ())
    return LocalEngine(loaded, chat_format(tokenizer, "none", "tiny"), batch_size=8)


def prompts() -> list[Prompt]:
    return [Prompt(text) for bad in (False, True) for text in planted_prompts(4, bad, seed=3)]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_measured_token_is_the_first_of_the_answer(name: str) -> None:
    family = FAMILIES[name]
    engine = engine_of(family)
    sampled = SampledModel(engine, prompts(), no_progress)
    assert find_response_prefix(sampled, CHAIN_OF_THOUGHT_SKIPS) == family.prefix
    engine.set_prefix(family.prefix)
    first = engine.first_token_log_probabilities(prompts(), [{}], no_progress)[0].argmax(dim=-1)
    said = [text for [text] in map(engine.chat.tokenizer.convert_ids_to_tokens, first[:, None].tolist())]
    assert said == ["sure"] * 4 + ["sorry"] * 4


@pytest.mark.parametrize("name", ["qwen3", "magistral", "deepseek-r1"])
def test_thoughts_can_be_measured_too(name: str) -> None:
    sampled = SampledModel(engine_of(FAMILIES[name]), prompts(), no_progress)
    prefix = find_response_prefix(sampled, CHAIN_OF_THOUGHT_SKIPS, measure_thinking=True)
    # All of this model's thoughts are alike, so all of them stands before what is measured: said by it, not closed.
    assert "hmmwell" in prefix


def test_the_engine_keeps_its_own_prefix() -> None:
    engine = engine_of(FAMILIES["plain"])
    engine.set_prefix("sure")
    find_response_prefix(SampledModel(engine, prompts(), no_progress), CHAIN_OF_THOUGHT_SKIPS)
    assert engine.chat.response_prefix == "sure"


@pytest.mark.parametrize(
    ("prompt", "closing"),
    [
        ("<assistant><think>", "</think>"),
        ("<assistant><think>\n", "</think>"),
        ("<think>\n\n</think>\n\n", ""),
        ("", ""),
    ],
)
def test_a_thought_that_the_template_opens_is_closed(prompt: str, closing: str) -> None:
    assert close_opened(prompt, CHAIN_OF_THOUGHT_SKIPS) == closing


@pytest.mark.parametrize(
    ("prefix", "seen"),
    [
        ("<think></think>", ""),
        ("<think></think>\n\n", ""),
        ("</think>\n\nAnswer:", "Answer:"),
        ("Answer:", "Answer:"),
        ("", ""),
    ],
)
def test_a_reader_sees_the_text_after_the_thought(prefix: str, seen: str) -> None:
    assert spoken(prefix, CHAIN_OF_THOUGHT_SKIPS) == seen
