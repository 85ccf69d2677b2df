"""How many candidates must be measured to their end, by the order: `python benchmarks/orders.py [--candidates 60]`.

Measures the first candidates of a study of SmolLM2-135M-Instruct in full; at which token each response was known to be
a refusal tells what a look at it would have counted. Then tells how many a search would have had to measure to their
end: as they are drawn; in the order that a search uses; as earlier versions did, which looked at a dozen and measured
four of them first; with all of them looked at before the first is measured; and with their figures known before. A
candidate is ruled out by those told before it was asked for; `--open` are asked for at once. It takes as long as its
candidates do: twenty minutes and more on two cores; `--candidates 8 --prompts 8` shows that it runs.
"""

import argparse
from copy import deepcopy

from common import Bench

# isort: split
from heretic.evaluation.evaluator import Evaluation
from heretic.evaluation.pruning.preview import PROMPTS, TOKENS, Preview, most_promising_first
from heretic.evaluation.pruning.statistics import PruningStatistics
from heretic.search.startup_order import FIRST_LOOK, FIRST_TRIALS
from heretic.study.sampler import RandomDraws


def measured_to_the_end(order: list[int], figures: list[Evaluation], open_at_once: int) -> int:
    """Of candidates with these figures, measured in this order: those that nothing told before rules out."""
    told: list[Evaluation | None] = []
    for place, number in enumerate(order):
        this = figures[number]
        known = [each for each in told[: max(0, place - open_at_once + 1)] if each is not None]
        lost = any(each.kl_divergence <= this.kl_divergence and each.refusals <= this.refusals for each in known)
        told.append(None if lost else this)
    return sum(each is not None for each in told)


def look(figures: Evaluation, learned: PruningStatistics) -> Preview:
    """What a look would have counted."""
    assert figures.declined_at is not None
    tokens = [figures.declined_at[prompt] for prompt in learned.most_declined(PROMPTS)]
    return Preview(figures.kl_divergence, sum(token is not None and token <= TOKENS for token in tokens))


def by_looks(figures: list[Evaluation], learned: PruningStatistics, first: int, trials: int) -> list[int]:
    """`first` are looked at, the best `trials` of them measured, then all the others in one order."""
    learned = deepcopy(learned)
    looks = [look(each, learned) for each in figures[:first]]
    begun = most_promising_first(looks)
    for number in begun[:trials]:
        declined_at = figures[number].declined_at
        assert declined_at is not None
        learned.learn(declined_at)
    looks += [look(each, learned) for each in figures[first:]]
    rest = begun[trials:] + list(range(first, len(figures)))
    return begun[:trials] + [rest[place] for place in most_promising_first([looks[number] for number in rest])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--open", type=int, default=4, help="candidates asked for at once: two a process")
    arguments = parser.parse_args()
    bench = Bench(tokens=100, prompts=arguments.prompts)
    draws = RandomDraws(bench.space, arguments.seed)
    candidates = bench.space.literature()
    candidates += draws.next(arguments.candidates - len(candidates))
    figures = [bench.evaluate(parameters) for parameters in candidates]
    count = len(candidates)
    learned = bench.evaluator.learned
    known = [Preview(each.kl_divergence, each.refusals) for each in figures]
    orders = {
        "as they are drawn": list(range(count)),
        "as a search does": by_looks(figures, learned, FIRST_LOOK, FIRST_TRIALS),
        "four of a dozen first": by_looks(figures, learned, 12, 4),
        "all looked at before the first": by_looks(figures, learned, count, count),
        "with all figures known before": most_promising_first(known),
    }
    for title, order in orders.items():
        print(f"{title:32}{measured_to_the_end(order, figures, arguments.open):4} of {count} measured to their end")


if __name__ == "__main__":
    main()
