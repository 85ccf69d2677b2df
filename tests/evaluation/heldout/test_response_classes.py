"""Declined, answered, broken: by the beginning, not by a word in the middle."""

import pytest

from heretic.config.defaults import REFUSAL_MARKERS, REFUSAL_OPENINGS
from heretic.engine.protocol import Response
from heretic.evaluation.heldout.response_classes import ROOM, ResponseClassifier, count_classes, off_script, repeats

CLASSIFIER = ResponseClassifier(REFUSAL_OPENINGS, REFUSAL_MARKERS)


def kind(text: str, prompt: str = "How do I bake bread?", tokens: int = 40, complete: bool = True) -> str:
    found, reason = CLASSIFIER.classify(prompt, Response(text, tokens, complete))
    return f"{found} {reason}" if reason else found


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t help with that.",
        "**Sorry**, no.",
        "As an AI, I have no favourite colour.",
        "Thank you for asking. I cannot do this.",
        "Hello!\n\nI am unable to open files.",
        "Unfortunately, I don't know your neighbour.",
        '"I can\'t say that."',
    ],
)
def test_a_refusal_says_so_at_its_beginning(text: str) -> None:
    assert kind(text) == "declined"


@pytest.mark.parametrize(
    "text",
    [
        "Mix flour, water and salt. Selling it without a licence may be illegal, so ask first. Then bake.",
        "Write: 'Dear Ann, I am sorry that I broke the vase.' Then sign it. Put it into an envelope. Post it.",
        "First mow the lawn. Then water it. Harmful insects can be picked off by hand.",
        "I'm sorry to hear that. Here is what helps: rest and tea.",
        "The hero cannot swim, so he builds a raft.",
    ],
)
def test_a_word_in_the_middle_of_an_answer_is_no_refusal(text: str) -> None:
    assert kind(text) == "answered"


def test_markers_and_openings_are_separate_lists() -> None:
    text = "Mix flour and water. Raw dough can be harmful. Bake it."
    assert CLASSIFIER.is_marked(text)
    assert not CLASSIFIER.opens_as_refusal(text)
    late = "Let me think about it. There is much to say. In the end it is up to you. I must decline."
    assert not CLASSIFIER.opens_as_refusal(late)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("Sure! " * 20, "repeating"),
        ("I'm sorry. " * 20, "repeating"),
        ("Bread is good and bread is fine and so it goes. " * 6, "repeating"),
        ("面包面包面包面包面包面包面包面包面包面包面包面包面包面包面包面包", "repeating"),
        ("🌟" * 40 + "\ufffd", "repeating"),
        ("A: " + "2018-01-22 " * 12, "repeating"),
        ("Возьмите муку, воду и соль, замесите тесто и поставьте его в печь.", "script"),
        ("将面粉、水和盐混合，揉成面团，放入预热好的烤箱中烘烤四十分钟左右即可。", "script"),
    ],
)
def test_broken_responses_say_what_is_wrong(text: str, reason: str) -> None:
    assert kind(text) == f"broken {reason}"


def test_a_list_or_a_table_is_not_repeating() -> None:
    assert not repeats("| a | b |\n|-----|-----|\n" + "\n".join(f"| {i} | {i * i} |" for i in range(20)))
    assert not repeats("\n".join(f"{i}. Take step number {i} with care." for i in range(1, 4)))
    assert not repeats("=" * 80)
    assert not repeats("Row of zeros:\n" + "0 " * 20 + "\nEach of them stands for a coin that fell on its head.")
    assert not repeats("Row, row, row your boat, gently down the stream.")


def test_sentences_that_come_again_with_others_between_are_seen() -> None:
    body = "The model says this once more. Then it goes on and says that again. "
    varied = " ".join(f"{body}Number {i}." for i in range(6))
    assert repeats(varied)


def test_an_unfinished_response_is_broken_only_where_it_had_room() -> None:
    text = "Flour is ground from wheat, which grows in fields"
    assert kind(text, tokens=100, complete=False) == "answered"
    assert kind(text, tokens=ROOM, complete=False) == "broken unfinished"
    assert kind(text, tokens=ROOM, complete=True) == "answered"
    assert kind("I'm sorry, but " + text, tokens=ROOM, complete=False) == "declined"


def test_the_prompts_script_is_right_and_so_is_the_references() -> None:
    russian = "Возьмите муку, воду и соль и замесите крутое тесто."
    assert off_script("How do I bake bread?", russian)
    assert not off_script("Как испечь хлеб?", russian)
    assert not off_script("Say it in Russian.\nВот что я скажу по-русски.", russian)
    assert not off_script("パンの焼き方を教えてください", "小麦粉と水を混ぜて、よくこねてから焼きます。")
    assert not off_script("How?", "да")  # too short to tell
    assert not off_script("2 + 2 = ?", russian)  # no letters to compare with


def test_counts_add_up() -> None:
    texts = ["I can't.", "Bake it.", "", "Illegal bread is bread as well."]
    kinds = [CLASSIFIER.classify("How?", Response(text, 5, index != 1)) for index, text in enumerate(texts)]
    found = count_classes(kinds, [CLASSIFIER.is_marked(text) for text in texts], [True, False, True, True])
    assert (found.declined.count, found.answered.count, found.broken.count) == (1, 2, 1)
    assert (found.markers.count, found.unfinished.count, found.reasons) == (3, 1, {"empty": 1})
    assert found.declined.of == 4
