"""What opens a chain of thought, and what ends it, in the shapes that families of models use."""

import pytest

from heretic.evaluation.thoughts import closing_marker, ends_in_thought, find_separator, last_marker

HARMONY = "<|end|><|start|>assistant<|channel|>final<|message|>"
OPENERS = [
    "<think>\n",
    "<seed:think>",
    "<|START_THINKING|>",
    "<|think|>",
    "[THINK]",
    "◁think▷",
    "<reasoning>\n\n",
    "<|channel>thought\n",
    "<|channel|>analysis<|message|>",
    "<|open|>think<|sep|>",
    "Here are my reasoning steps:\n",
]
CLOSED = [
    "<think>\n\n</think>\n\n",
    "</seed:think>",
    "<|END_THINKING|>",
    "[/THINK]",
    "◁/think▷",
    "<|channel>thought\n<channel|>",
    HARMONY,
    "<|close|>think<|sep|><|open|>response<|sep|>",
    "<|think|><|end|><|begin|>assistant",
    "<|im_start|>assistant\n",
    "[/INST]",
    "I think so",
    "### Response:",
    "",
]


@pytest.mark.parametrize("opener", OPENERS)
def test_openers_of_thoughts_are_recognised(opener: str) -> None:
    assert ends_in_thought(f"<|im_start|>assistant\n{opener}")
    assert not ends_in_thought(f"<|im_start|>assistant\n{opener}Okay")


@pytest.mark.parametrize("closed", CLOSED)
def test_what_closes_one_is_not_taken_for_an_opener(closed: str) -> None:
    assert not ends_in_thought(f"<|im_start|>assistant\n{closed}")


@pytest.mark.parametrize(
    ("separator", "behind"),
    [
        ("</think>", "\n\n"),
        ("</seed:think>", ""),
        ("<|END_THINKING|><|START_RESPONSE|>", ""),
        ("[BEGIN FINAL RESPONSE]", "\n"),
        (HARMONY, ""),
        ("<|end|><|start|>assistant to=user<|message|>", ""),
        ("<channel|>", ""),
        ("</zorp>", " "),
    ],
)
def test_what_ends_thoughts_is_found(separator: str, behind: str) -> None:
    thoughts = ["Okay, the user wants", "Hmm.\n\nSo a <b>bold</b> word", "First: is a < b? Yes", "I see [1]"]
    answers = ["Sure, here", "<p>Yes</p>", "I can't", "No."]
    texts = [f"{t}\n{separator}{behind}{a}<|eos|>" for t, a in zip(thoughts, answers, strict=True)]
    assert find_separator(texts) == separator
    assert find_separator([*texts, "still thinking", "so am I"]) == separator


def test_answers_have_none() -> None:
    assert find_separator(["Sure, <b>here</b>", "No.", "I can't", "<p>Yes</p>"]) == ""
    assert find_separator(["Sure<|eos|>", "No.<|eos|>"]) == ""
    assert find_separator([]) == ""


def test_the_last_marker() -> None:
    assert last_marker("\n</think>\n\nAnswer:") == len("\n</think>")
    assert last_marker("Answer:") == 0


@pytest.mark.parametrize(
    ("opener", "closer"),
    [
        ("<zorp>\n", "</zorp>"),
        ("<seed:zorp>", "</seed:zorp>"),
        ("[ZORP]", "[/ZORP]"),
        ("◁zorp▷", "◁/zorp▷"),
        ("<|zorp>", "<zorp|>"),
        ("<|begin_zorp|>", "<|end_zorp|>"),
        ("<|START_ZORP|>", "<|END_ZORP|>"),
        ("<|zorp_start|>", "<|zorp_end|>"),
        ("<｜begin▁of▁zorp｜>", "<｜end▁of▁zorp｜>"),
        ("<assistant>", ""),
        ("<|assistant|>", ""),
        ("<|im_start|>", ""),
        ("[/INST]", ""),
        ("</zorp>", ""),
        ("<reserved_107>", ""),
        ("<zorp> word", ""),
    ],
)
def test_what_a_prompt_opens_is_closed_by_its_mirror(opener: str, closer: str) -> None:
    assert closing_marker(f"<|im_start|>assistant\n{opener}") == closer
