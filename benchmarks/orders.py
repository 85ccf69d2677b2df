"""How many candidates must be measured to their end, by the order: `python benchmarks/orders.py [--candidates 60]`.

Measures the first candidates of a study of SmolLM2-135M-Instruct in full and looks at each as a search does. Then tells
by those figures how many a search would have had to measure to their end: as they are drawn; in the order that a search
uses; with all of them looked at before the first is measured; and with their figures known before. A candidate is ruled
out by those told before it was asked for; `--open` are asked for at once. It takes as long as its candidates do: twenty
minutes and more on two cores; `--candidates 8 --prompts 8` shows that it runs.
"""

import argparse

from heretic.ablation.compile import compile_edit
from heretic.evaluation.evaluator import Evaluation
from heretic.evaluation.promise import Look, most_promising_first
from heretic.pipeline.lining_up import FIRST_LOOK, FIRST_TRIALS
from heretic.study.sampler import RandomDraws
from samplers import Bench


def measured_to_the_end(order: list[int], figures: list[tuple[float, int]], open_at_once: int) -> int:
    """Of candidates with these (KL, refusals), measured in this order: those that nothing told before rules out."""
    told: list[tuple[float, int] | None] = []
    for place, number in enumerate(order):
        kl, refusals = figures[number]
        known = [each for each in told[: max(0, place - open_at_once + 1)] if each is not None]
        lost = any(other <= kl and least <= refusals for other, least in known)
        told.append(None if lost else (kl, refusals))
    return sum(each is not None for each in told)


def by_looks(looks: list[Look], first: int, trials: int) -> list[int]:
    """`first` are looked at, the best `trials` of them measured, then all the others in one order."""
    begun = most_promising_first(looks[:first])
    rest = begun[trials:] + list(range(first, len(looks)))
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
    candidates = bench.space.textbook()
    candidates += draws.next(arguments.candidates - len(candidates))
    looks: list[Look] = []
    figures: list[tuple[float, int]] = []
    for parameters in candidates:
        edit = compile_edit(parameters, bench.directions, bench.engine.sites, bench.stats)
        [look] = bench.evaluator.look([edit], bench.baseline)
        assert isinstance(look, Look)
        [whole] = bench.evaluator.evaluate([edit], bench.baseline, known=[look.kl_divergence])
        assert isinstance(whole, Evaluation)
        looks.append(look)
        figures.append((whole.kl_divergence, whole.refusals))
    count = len(candidates)
    known = [Look(kl, refusals) for kl, refusals in figures]
    orders = {
        "as they are drawn": list(range(count)),
        "as a search does": by_looks(looks, FIRST_LOOK, FIRST_TRIALS),
        "all looked at before the first": by_looks(looks, count, count),
        "with all figures known before": by_looks(known, count, count),
    }
    for title, order in orders.items():
        print(f"{title:32}{measured_to_the_end(order, figures, arguments.open):4} of {count} measured to their end")


if __name__ == "__main__":
    main()
