"""Where the time of a search goes: `python benchmarks/search.py [--dtype float32] [--trials 60] [--seed 0]`.

Runs a search of SmolLM2-135M-Instruct on the demo's prompts, in which each process logs what it measured and how long
that took. Prints the shares of previews, of fully evaluated trials, of pruned trials, and of waiting. Run nothing else
at the same time.
"""

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path

from common import search_flags, write_inputs
from heretic.cli.entry import main as heretic
from heretic.search.measurer import logger

KINDS = {
    "preview": "previews",
    "complete": "fully evaluated trials",
    "pruned": "pruned trials",
    "failed": "failed trials",
}


class MeasurementLog(logging.Handler):
    """Writes a line for each candidate that any process measures: process, kind, begin and end."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.DEBUG)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        kind, seconds = record.__dict__["kind"], record.__dict__["seconds"]
        with self._path.open("a") as file:
            file.write(json.dumps([record.process, kind, record.created - seconds, record.created]) + "\n")


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
    # The handler is inherited by the processes that are forked later.
    logger.addHandler(MeasurementLog(jobs))
    logger.setLevel(logging.DEBUG)
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
