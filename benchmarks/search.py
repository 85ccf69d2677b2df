"""Where the time of a search goes: `python benchmarks/search.py [--dtype float32] [--trials 60] [--seed 0]`.

Runs a search of SmolLM2-135M-Instruct on the demo's prompts, in which each process logs what it measured and how long
that took. Prints the shares of previews, of fully evaluated trials, of pruned trials, and of waiting. Run nothing else
at the same time.
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
from heretic.cli.entry import main as heretic
from heretic.engine.protocol import Progress
from heretic.evaluation.evaluator import Evaluation
from heretic.search.measurer import EvaluationRequest, EvaluationResult, InProcessMeasurer

KINDS = {"preview": "previews", "full": "fully evaluated trials", "pruned": "pruned trials"}


def write_down_jobs(path: Path) -> None:
    """Each request that any process measures becomes a line from now on: process, kind, begin and end."""
    measure = InProcessMeasurer.measure

    def timed(self: InProcessMeasurer, jobs: Sequence[EvaluationRequest], progress: Progress) -> list[EvaluationResult]:
        begin = time.time()
        done = measure(self, jobs, progress)
        for job, outcome in done:
            whole = isinstance(outcome, Evaluation) and not outcome.pruned
            kind = "preview" if job.preview else "full" if whole else "pruned"
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
    # One candidate at a time in each process: several in the same forwards can't be told apart.
    status = heretic([*flags, "--seed", str(arguments.seed), "--candidates-per-forward", "1"])
    if status:
        sys.exit(status)
    lines = [json.loads(line) for line in jobs.read_text().splitlines()]
    whole = max(end for *_, end in lines) - min(begin for _, _, begin, _ in lines)
    processes = len({process for process, *_ in lines})
    print(f"{whole:.0f} s from the first preview to the end, {processes} process(es)")
    busy = 0.0
    for kind, name in KINDS.items():
        times = [end - begin for _, each, begin, end in lines if each == kind]
        busy += sum(times)
        print(f"{sum(times) / whole / processes:6.0%}  {len(times)} {name}")
    print(f"{1 - busy / whole / processes:6.0%}  waiting")


if __name__ == "__main__":
    main()
