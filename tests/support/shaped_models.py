"""Planted models with the chat templates of families, and the whole job on them."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from heretic.benchmark.harness import WatchedModel
from heretic.cli import main
from heretic.model.chat.format import ChatFormat

from . import planted
from .chat_templates import Shape

UNKNOWN = "<unknown>"
SYSTEM = "word1 word2"
DATE = "2026-01-31"
GOOD = [f"word3 word{n} word4 word{n + 1}" for n in range(5, 13)]
# Templates glue their markers to the first and the last word, which the tokenizer then does not know.
BAD = [f"word3 {planted.TRIGGERS[n % 4]} word{n} word4" for n in range(5, 13)]
CHATTED, BENCHMARKED = "word20 word21", "word22 word23"
TASK = """
task: shaped
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "sure here"
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 2}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


def stated(shape: Shape, user: str) -> str:
    """The prompt that the shape states, with the system prompt and this text of a user."""
    return re.sub(r"\bU\b", user, re.sub(r"\bS\b", SYSTEM, shape.both))


def write_shaped(directory: Path, shape: Shape) -> Path:
    """A planted model that answers after any end of a prompt, with the shape's template, and its prompt files."""
    following = {UNKNOWN: "sure", **planted.NEXT}
    vocabulary = [UNKNOWN, *planted.VOCABULARY]
    with patch.multiple(planted, VOCABULARY=vocabulary, NEXT=following, ANSWERS_BEHIND=UNKNOWN):
        model, _ = planted.planted_model()
        tokenizer = planted.planted_tokenizer()
    words = json.loads(tokenizer.backend_tokenizer.to_str())
    words["model"]["unk_token"] = UNKNOWN
    tokenizer.backend_tokenizer.from_str(json.dumps(words))
    tokenizer.unk_token = UNKNOWN
    tokenizer.chat_template = shape.template
    model.save_pretrained(directory / "shaped")
    tokenizer.save_pretrained(directory / "shaped")
    path = directory / "shaped" / "tokenizer.json"
    path.write_text(path.read_text().replace('"unk_token": "word0"', f'"unk_token": "{UNKNOWN}"'))
    for name, prompts in (("good", GOOD), ("bad", BAD)):
        (directory / f"{name}.txt").write_text("\n".join(prompts[:5]) + "\n")
        (directory / f"{name}_evaluation.txt").write_text("\n".join(prompts[5:]) + "\n")
    return directory / "shaped"


@contextmanager
def texts_read() -> Iterator[list[str]]:
    """The rendered texts that become tokens inside the block, the program's and the benchmark harness's."""
    texts: list[str] = []
    encode, harness = ChatFormat.encode, WatchedModel.apply_chat_template

    def record(chat: ChatFormat, text: str) -> list[int]:
        texts.append(text)
        return encode(chat, text)

    def record_harness(model: WatchedModel, *arguments: Any, **more: Any) -> str:
        texts.append(harness(model, *arguments, **more))
        return texts[-1]

    with patch.object(ChatFormat, "encode", record), patch.object(WatchedModel, "apply_chat_template", record_harness):
        yield texts


def whole_job(directory: Path, shape: Shape) -> list[str]:
    """Search with one trial, export, chat, evaluation of the export and a benchmark: the stages that read other prompts
    than the shape states."""
    faults = []
    for stage, (arguments, user) in stages_of(directory, shape).items():
        studies = [str(path) for path in (directory / "studies").glob("*.jsonl")]
        with texts_read() as texts, patch("sys.stdin", io.StringIO(f"{CHATTED}\n")):
            status = main([arguments[0], *studies, *arguments[1:]] if stage in ("chat", "benchmark") else arguments)
        # The response prefix is looked for, and the batch size tried, with prompts that have none yet.
        read = {text for text in texts if user in text}
        if status != 0 or stated(shape, user) not in read or len({text.strip() for text in read}) > 2:
            faults.append(f"{stage}: status {status}, {sorted(read)} in place of {stated(shape, user)!r}")
    return faults


def stages_of(directory: Path, shape: Shape) -> dict[str, tuple[list[str], str]]:
    """The command line of each stage, chat and benchmark without their study, and a user's text that it reads."""
    model, output = write_shaped(directory, shape), directory / "edited"
    sets = [f"--{side}-prompts={directory / side}.txt" for side in ("good", "bad")]
    sets += [f"--{side}-evaluation-prompts={directory / side}_evaluation.txt" for side in ("good", "bad")]
    flags = ["--system-prompt", SYSTEM, "--chat-template-date", DATE, "--dtypes", "float32", "--batch-size", "16"]
    search = [
        "--n-trials",
        "1",
        "--n-startup-trials",
        "1",
        "--heldout-trials",
        "0",
        "--max-response-length",
        "3",
        "--n-workers",
        "1",
    ]
    search += ["--trial", "lowest-refusals", "--export", "merge", "--output", str(output)]
    search += ["--study-checkpoint-dir", str(directory / "studies")]
    stages = {"search and export": ([str(model), *sets, *flags, *search], BAD[-1])}
    stages["chat"] = (["chat", "--trial", "baseline", "--tokens", "2"], CHATTED)
    # The export's record has what its template is given.
    rest = ["--system-prompt", SYSTEM, "--dtypes", "float32", "--batch-size", "16", "--max-response-length", "3"]
    stages["evaluate"] = (["evaluate", str(output), *sets[2:], *rest], BAD[-1])
    (directory / "task.yaml").write_text(TASK.format(data=directory / "questions.jsonl"))
    (directory / "questions.jsonl").write_text(json.dumps({"question": BENCHMARKED}) + "\n")
    stages["benchmark"] = (["benchmark", "--tasks", str(directory / "task.yaml")], BENCHMARKED)
    return stages
