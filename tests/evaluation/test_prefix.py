"""The common prefix of all responses, and the start of the answer."""

import random

import pytest

from heretic.config.defaults import CHAIN_OF_THOUGHT_SKIPS
from heretic.evaluation.prefix import close_thought, common_prefix


@pytest.mark.parametrize(
    ("texts", "prefix"),
    [
        (["Sure, here", "No"], ""),
        (["Answer: yes", "Answer: no"], "Answer:"),
        (["<think>\nOkay, the user", "<think>\nHmm, so"], "<think>"),
        (["same", "same"], "same"),
        (["same"], "same"),
        (["same", "same again"], "same"),
        (["same", ""], ""),
        (["  \n", "  \n"], ""),
        (["I'm sorry", "I am sorry"], ""),
        (["The cat", "The car"], "The"),
        (["I can help", "I can't help"], "I"),
        (["I'm glad", "I'd say"], ""),
        (["I’m glad", "I’d say"], ""),
        (["Nein, für alle", "Nein, füllen"], "Nein,"),
        (["Да, плохо", "Да, плов"], "Да,"),
        (["[THINK]a", "[THINK]b"], "[THINK]"),
        (["1. one", "1. two"], "1."),
        (["12 apples", "13 apples"], ""),
        (["snake_case", "snake_bite"], ""),
    ],
)
def test_what_all_texts_begin_with(texts: list[str], prefix: str) -> None:
    assert common_prefix(texts) == prefix
    assert common_prefix(texts[::-1]) == prefix


@pytest.mark.parametrize("seed", range(50))
def test_it_begins_every_text_and_ends_at_a_word(seed: int) -> None:
    rng = random.Random(seed)
    shared = " ".join(rng.choices(["<think>", "well,", "I", "see", "für"], k=rng.randrange(4)))
    texts = [shared + rng.choice(["", " ", "\n"]) + rng.choice(["yes", "you", "x", ". So", "'s"]) for _ in range(4)]
    prefix = common_prefix(texts)
    beginnings = (texts[0][:length] for length in range(len(texts[0]) + 1))
    naive = [each for each in beginnings if all(text.startswith(each) for text in texts)][-1]
    assert naive.startswith(prefix)
    assert prefix == prefix.rstrip()
    for text in texts:
        rest = text[len(prefix) :]
        assert not prefix or not rest or not (prefix[-1].isalnum() and (rest[0].isalnum() or rest[0] == "'"))
    # Only one word is left out.
    assert len(naive[len(prefix) :].split()) <= 1


@pytest.mark.parametrize(("opener", "closed"), CHAIN_OF_THOUGHT_SKIPS)
@pytest.mark.parametrize("behind", ["", "\nOkay, the user wants", " "])
@pytest.mark.parametrize("before", ["", "\n", "  "])
def test_an_opened_thought_is_closed(opener: str, closed: str, behind: str, before: str) -> None:
    assert close_thought(before + opener + behind, CHAIN_OF_THOUGHT_SKIPS) == before + closed
    assert closed.startswith(opener)
    assert closed != opener
    assert close_thought(closed, CHAIN_OF_THOUGHT_SKIPS) == closed


@pytest.mark.parametrize("prefix", ["", "Sure,", "I <think>", "<thinking>", "<|channel|>final<|message|>", "think>"])
def test_other_beginnings_stay(prefix: str) -> None:
    assert close_thought(prefix, CHAIN_OF_THOUGHT_SKIPS) == prefix


@pytest.mark.parametrize(("opener", "closed"), CHAIN_OF_THOUGHT_SKIPS)
def test_responses_that_all_think_are_measured_after_the_thought(opener: str, closed: str) -> None:
    responses = [f"{opener}\nOkay, {rest}" for rest in ("the user", "so", "they want")]
    assert close_thought(common_prefix(responses), CHAIN_OF_THOUGHT_SKIPS) == closed
