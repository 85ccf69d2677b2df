"""How many candidates must be fully evaluated, by the order: `python benchmarks/orders.py [--candidates 60]`.

Fully evaluates the first candidates of a study of SmolLM2-135M-Instruct. The token at which each response was known to
be a refusal gives what a preview would have counted. Then counts how many a search would have had to evaluate fully:
as they are drawn; in the order that a search uses; as earlier versions did, which previewed a dozen and evaluated four
of them first; with all of them previewed before the first is evaluated; and with their metrics known in advance. A
candidate is ruled out by results that were reported before its request; `--open` are requested at once. It takes as
long as its candidates do: twenty minutes and more on two cores; `--candidates 8 --prompts 8` shows that it runs.
"""

import argparse

from common import Bench, refusals_and_kl

# isort: split
from heretic.evaluation.evaluator import Evaluation
from heretic.evaluation.pruning.preview import PROMPTS, TOKENS, Preview, most_promising_first
from heretic.evaluation.pruning.statistics import PruningStatistics
from heretic.search.startup_order import FIRST_PREVIEWS, FIRST_TRIALS
from heretic.study.sampler import RandomDraws


def fully_evaluated(order: list[int], figures: list[Evaluation], open_at_once: int) -> int:
    """The number of candidates, in this order, that no earlier result rules out."""
    told: list[Evaluation | None] = []
    for place, number in enumerate(order):
        this = figures[number]
        known = [each for each in told[: max(0, place - open_at_once + 1)] if each is not None]
        lost = any(
            all(a <= b for a, b in zip(refusals_and_kl(each), refusals_and_kl(this), strict=True)) for each in known
        )
        told.append(None if lost else this)
    return sum(each is not None for each in told)


def preview(figures: Evaluation, learned: PruningStatistics) -> Preview:
    """The counts of a preview."""
    assert figures.declined_at is not None
    tokens = [figures.declined_at[prompt] for prompt in learned.most_declined(PROMPTS)]
    return known_preview(figures, sum(token is not None and token <= TOKENS for token in tokens))


def known_preview(figures: Evaluation, refusals: float) -> Preview:
    return Preview({"kl_divergence": refusals_and_kl(figures)[1]}, {"refusals": refusals})


def by_previews(figures: list[Evaluation], learned: PruningStatistics, first: int, trials: int) -> list[int]:
    """An order: `first` candidates are previewed, the best `trials` evaluated, then all others by their previews."""
    previews = [preview(each, learned) for each in figures[:first]]
    begun = most_promising_first(previews)
    for number in begun[:trials]:
        declined_at = figures[number].declined_at
        assert declined_at is not None
        learned = learned.learn(declined_at)
    previews += [preview(each, learned) for each in figures[first:]]
    rest = begun[trials:] + list(range(first, len(figures)))
    return begun[:trials] + [rest[place] for place in most_promising_first([previews[number] for number in rest])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--open", type=int, default=4, help="candidates requested at once: two for each process")
    arguments = parser.parse_args()
    bench = Bench(tokens=100, prompts=arguments.prompts)
    draws = RandomDraws(bench.space, arguments.seed)
    candidates = bench.space.literature()
    candidates += draws.next(arguments.candidates - len(candidates))
    figures = [bench.evaluate(parameters) for parameters in candidates]
    count = len(candidates)
    learned = bench.evaluator.statistics(bench.baseline)
    known = [known_preview(each, refusals_and_kl(each)[0]) for each in figures]
    orders = {
        "as drawn": list(range(count)),
        "as a search does": by_previews(figures, learned, FIRST_PREVIEWS, FIRST_TRIALS),
        "four of a dozen first": by_previews(figures, learned, 12, 4),
        "all previewed first": by_previews(figures, learned, count, count),
        "all metrics known": most_promising_first(known),
    }
    for title, order in orders.items():
        print(f"{title:32}{fully_evaluated(order, figures, arguments.open):4} of {count} fully evaluated")


if __name__ == "__main__":
    main()
