"""How well the first token predicts whole responses: `python benchmarks/agreement.py [--candidates 40]`.

Measures random candidates of SmolLM2-135M-Instruct twice on the same prompts: refusals by markers in responses of
`--tokens` tokens, and the dense score of `objective = "log-odds"` (the mean probability that a response begins as the
baseline's refusals do; prefill only). Prints Spearman's rank correlation of the two, over all candidates and over those
with fewer than half of the baseline's refusals, and how many trials of the front by markers would survive a screen that
lets only the better half by log-odds generate.
"""

import argparse
import statistics

from common import Bench, refusals_and_kl

# isort: split
from scipy.stats import spearmanr

from heretic.evaluation.evaluator import Evaluation

PROMPTS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    bench = Bench(arguments.tokens, "both", PROMPTS)
    drawn = bench.random_parameters(arguments.candidates, arguments.seed)
    report([bench.evaluate(parameters) for parameters in drawn], bench.baseline_refusals)


def probability(evaluation: Evaluation) -> float:
    """The mean probability of beginning a refusal."""
    return evaluation.metrics["refusals"].details["probability"]


def report(measured: list[Evaluation], baseline: float) -> None:
    def correlation(chosen: list[Evaluation]) -> float:
        return float(spearmanr([refusals_and_kl(e)[0] for e in chosen], [probability(e) for e in chosen]).statistic)

    low = [each for each in measured if refusals_and_kl(each)[0] < baseline / 2]
    points = [refusals_and_kl(each) for each in measured]
    front = [
        each
        for each, (refusals, kl) in zip(measured, points, strict=True)
        if not any(other <= refusals and theirs < kl for other, theirs in points)
    ]
    middle = statistics.median(map(probability, measured))
    kept = sum(probability(each) <= middle for each in front)
    print(f"candidates: {len(measured)}; the baseline declines {baseline} of {PROMPTS}")
    print(f"Spearman, all candidates: {correlation(measured):.2f}")
    print(f"Spearman, the {len(low)} that decline less than half as much: {correlation(low):.2f}")
    print(f"of {len(front)} on the front by markers, the better half by log-odds holds {kept}")


if __name__ == "__main__":
    main()
