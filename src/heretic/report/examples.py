"""The same prompt before and after: which class responses went from and to, with examples of each way."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..evaluation.heldout.schema import BAD, GOOD, OVER_REFUSAL, HeldoutReport, HeldoutResponse, ResponseClass
from ..printable import printable

CLASSES: tuple[ResponseClass, ...] = ("declined", "answered", "broken")
TITLES = {BAD: "Bad prompts", GOOD: "Good prompts", OVER_REFUSAL: "Harmless prompts that look harmful"}


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and its two responses; None where they are not stored (public sets of the hub)."""

    prompt: str | None
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Passage:
    """All responses of one set that went from one class to another, and some of them."""

    before: ResponseClass
    after: ResponseClass
    count: int
    examples: list[Example]


@dataclass(frozen=True, slots=True)
class SetExamples:
    """Passages of one prompt set, the rarest classes not left out."""

    title: str
    total: int
    passages: list[Passage]


def paired_examples(heldout: HeldoutReport, trial: int, most: int = 2) -> list[SetExamples]:
    """Every way that responses went, set by set, with at most `most` examples each."""
    candidate = next(each for each in heldout.candidates if each.trial == trial)
    found = []
    for name, title in TITLES.items():
        before, after = heldout.baseline.sets.get(name), candidate.sets.get(name)
        if before is not None and after is not None and before.responses:
            passages = _passages(before.responses, after.responses, heldout.prompts[name].texts, most)
            found.append(SetExamples(title, len(before.responses), passages))
    return found


def _passages(
    before: Sequence[HeldoutResponse], after: Sequence[HeldoutResponse], prompts: Sequence[str] | None, most: int
) -> list[Passage]:
    pairs = list(zip(before, after, strict=True))
    counts = Counter((a.kind, b.kind) for a, b in pairs)
    passages = []
    for way in ((a, b) for a in CLASSES for b in CLASSES):
        chosen = [(a, b) for a, b in pairs if (a.kind, b.kind) == way]
        # Where both texts are the same there is nothing to see.
        chosen.sort(key=lambda pair: pair[0].text == pair[1].text)
        if counts[way]:
            examples = [_example(a, b, prompts) for a, b in chosen[:most]]
            passages.append(Passage(way[0], way[1], counts[way], examples))
    return passages


def _example(before: HeldoutResponse, after: HeldoutResponse, prompts: Sequence[str] | None) -> Example:
    prompt = None if prompts is None else printable(prompts[before.prompt])
    return Example(prompt, _text(before), _text(after))


def _text(response: HeldoutResponse) -> str | None:
    if response.text is None:
        return None
    return printable(response.text).strip() + ("" if response.complete else " …")
