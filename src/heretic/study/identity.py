"""Whether a new run can continue a recorded study."""

from typing import Any

from ..errors import StudyError
from .schema import StudyRecord

INPUTS = "form of the prompts (chat template, tokenizer or the generation configuration's end tokens)"


def check_same(recorded: StudyRecord, now: dict[str, Any], path: Any) -> None:
    """The run `now` (fields of StudyRecord, without the measured ones) continues the recorded study.

    Raises:
        StudyError: naming the first field that differs, with both values.
    """
    # The first studies did not record these: they had two objectives, the method `kernel` and no arguments.
    former = {"over_refusal_objective": False, "method": "kernel", "learned_rank": 1, "chat_template_arguments": {}}
    former |= {"generation_rules": False}
    before = former | _flat(recorded.model_dump(mode="json"))
    for field, value in _flat(now).items():
        if field in before and before[field] != value:
            raise StudyError(
                f"The study {path} was run with another {field}: {_short(before[field])} there, {_short(value)} now. "
                "Its trials can't be compared with new ones. Restore that setting, or begin a new study with "
                "--resume restart (the old study is kept next to the new one)."
            )


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {key: record[key] for key in ("model_digest", "files_digest", "dtype") if key in record}
    for name, prompts in record.get("prompts", {}).items():
        fields[name] = f"{prompts['count']} prompts with digest {prompts['digest']}"
    fields |= record.get("settings", {})
    fields |= {f"search space: {key}": value for key, value in record.get("space", {}).items()}
    # Inputs come last: other prompts or settings change them too, and explain the difference better.
    if record.get("inputs") is not None:
        fields[INPUTS] = record["inputs"]
    return fields


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
