"""A task of lm-evaluation-harness for the planted model."""

import json
from pathlib import Path

from tests.support.planted import planted_prompts

TASK = """
task: planted
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "sure here"
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: {tokens}}}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


def write_task(directory: Path, tokens: int) -> Path:
    """12 questions that the model declines and 4 that it answers; right is "sure here"."""
    questions = planted_prompts(12, bad=True, seed=90) + planted_prompts(4, bad=False, seed=91)
    data = directory / "questions.jsonl"
    data.write_text("".join(json.dumps({"question": each}) + "\n" for each in questions))
    task = directory / "planted.yaml"
    task.write_text(TASK.format(data=data, tokens=tokens))
    return task
