"""Where the time of a search goes: `python benchmarks/search.py [--dtype float32] [--trials 60] [--seed 0]`.

Runs a search of SmolLM2-135M-Instruct on the demo's prompts, each process writing down what it measured and how long it
took. Prints the shares of looks, of trials that were measured to their end, of trials that ended early, and of waiting.
Nothing else should run beside it.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common import search_flags, write_inputs
from heretic.cli.main import main as heretic
from heretic.engine.protocol import Progress
from heretic.evaluation.evaluator import Evaluation
from heretic.search.measurer import EvaluationRequest, EvaluationResult, InProcessMeasurer

KINDS = {"look": "looks", "whole": "trials measured to their end", "early": "trials that ended early"}


def write_down_jobs(path: Path) -> None:
    """From now on, each job that any process measures becomes a line: process, kind, begin and end."""
    measure = InProcessMeasurer.measure

    def timed(self: InProcessMeasurer, jobs: Sequence[EvaluationRequest], progress: Progress) -> list[EvaluationResult]:
        begin = time.time()
        done = measure(self, jobs, progress)
        for job, outcome in done:
            whole = isinstance(outcome, Evaluation) and not outcome.bound
            kind = "look" if job.looking else "whole" if whole else "early"
            with path.open("a") as file:
                file.write(json.dumps([os.getpid(), kind, begin, time.time()]) + "\n")
        return done

    InProcessMeasurer.measure = timed  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "search-times")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    study = Path(tempfile.mkdtemp(dir=work))
    jobs = study / "jobs"
    flags = search_flags(write_inputs(work), work, study, arguments.dtype, arguments.trials)
    write_down_jobs(jobs)
    # One candidate a job and process: several in the same forwards can't be told apart.
    status = heretic([*flags, "--seed", str(arguments.seed), "--candidates-per-forward", "1"])
    if status:
        sys.exit(status)
    lines = [json.loads(line) for line in jobs.read_text().splitlines()]
    whole = max(end for *_, end in lines) - min(begin for _, _, begin, _ in lines)
    processes = len({process for process, *_ in lines})
    print(f"{whole:.0f} s from the first look to the end, {processes} process(es)")
    busy = 0.0
    for kind, name in KINDS.items():
        times = [end - begin for _, each, begin, end in lines if each == kind]
        busy += sum(times)
        print(f"{sum(times) / whole / processes:6.0%}  {len(times)} {name}")
    print(f"{1 - busy / whole / processes:6.0%}  waiting for one another")


if __name__ == "__main__":
    main()
