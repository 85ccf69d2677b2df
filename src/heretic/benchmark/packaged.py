"""Two small tasks that come with the program: they need no network, and tell a broken model from a whole one."""

import json
import re
from importlib.resources import files
from typing import Any

FACTS = "heretic-facts"
SHORT_ANSWERS = "heretic-short-answers"
PACKAGED = (FACTS, SHORT_ANSWERS)
MOST_TOKENS = 64


def packaged_task(name: str) -> dict[str, Any]:
    """The harness's configuration of a packaged task.

    `heretic-facts`: 60 questions of general knowledge with four choices, by their likelihood. `heretic-short-answers`:
    60 easy questions, answered in at most 64 tokens; a response is right if it holds the answer as a word.
    """
    return _facts() if name == FACTS else _short_answers()


def _facts() -> dict[str, Any]:
    return {
        "task": FACTS,
        "custom_dataset": lambda **_: _documents("facts"),
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "num_fewshot": 0,
    }


def _short_answers() -> dict[str, Any]:
    return {
        "task": SHORT_ANSWERS,
        "custom_dataset": lambda **_: _documents("short-answers"),
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}} Answer in as few words as you can, and write numbers in digits.",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": MOST_TOKENS},
        "process_results": lambda document, responses: {"acc": float(holds(responses[0], document["answer"]))},
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "num_fewshot": 0,
    }


def holds(response: str, answer: str) -> bool:
    """Whether the answer is a word of the response; one in capitals must be so there too."""
    flags = re.NOFLAG if answer.isupper() else re.IGNORECASE
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", response, flags) is not None


def _documents(name: str) -> Any:
    from datasets import Dataset

    lines = (files(__package__) / "sets" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return {"test": Dataset.from_list([json.loads(line) for line in lines])}
