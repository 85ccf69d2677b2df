"""How often a model answers in circles by itself: `python benchmarks/own_loops.py STUDY TRIAL [--tokens 4 12]`.

A baseline that declines most bad prompts seldom repeats itself on them, because a refusal is short. To see what it does
when it answers, it continues the first tokens of a trial's answers. Printed are refusals by markers, and broken
responses (benchmarks/learned.py and the held-out evaluation count them alike), of the trial, the baseline, and the
baseline that continues, on the evaluation prompts of the search and the held-out ones.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

import heretic
from heretic.config.presets import resolve_heldout_prompts
from heretic.engine.protocol import Response, no_progress
from heretic.evaluation.heldout.response_classes import ResponseClassifier
from heretic.prompts.loading import load_prompts

ROWS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("trial")
    parser.add_argument("--tokens", nargs="+", type=int, default=[4, 12])
    arguments = parser.parse_args()
    study = heretic.open_study(arguments.study)
    opened = study.open()
    settings, engine = opened.settings, opened.engine
    prompts = list(opened.session.prompts.bad_evaluation.prompts)
    heldout = resolve_heldout_prompts(settings, settings)
    if heldout is not None:
        prompts += load_prompts(heldout[1]).prompts
    classifier = ResponseClassifier(settings.refusal_openings, settings.refusal_markers)
    length = settings.max_response_length
    edits = [{}, opened.edit(study.trial(arguments.trial))]
    baseline, edited = engine.generate(prompts, edits, length, None, no_progress)
    show("baseline", classifier, prompts, baseline)
    show(f"trial {arguments.trial}", classifier, prompts, edited)
    for count in arguments.tokens:
        continued = continuations(engine, prompts, edited, count, length)
        show(f"baseline, continuing {count} tokens", classifier, prompts, continued)


def continuations(engine: Any, prompts: Sequence[Any], begun: Sequence[Response], count: int, length: int) -> list[Any]:
    """The unedited model's continuations of the first `count` tokens of each response."""
    tokenizer, model = engine.chat.tokenizer, engine.loaded.model
    pad = tokenizer.pad_token_id
    rows = [engine.chat.tokens(prompt) + list(each.tokens[:count]) for prompt, each in zip(prompts, begun, strict=True)]
    found = []
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        longest = max(map(len, part))
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in part])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in part])
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=length - count, do_sample=False, pad_token_id=pad
            )
        for row, response in zip(written, begun[start : start + ROWS], strict=True):
            tokens = [*response.tokens[:count], *row[longest:].tolist()]
            found.append(replace(response, text=tokenizer.decode(tokens, skip_special_tokens=True)))
    return found


def show(name: str, classifier: ResponseClassifier, prompts: Sequence[Any], responses: Sequence[Response]) -> None:
    kinds = [classifier.classify(prompt.text, each)[0] for prompt, each in zip(prompts, responses, strict=True)]
    marked = sum(classifier.is_marked(each.text) for each in responses)
    print(f"{name}: {marked} marked, {kinds.count('broken')} broken of {len(kinds)}", flush=True)


if __name__ == "__main__":
    main()
