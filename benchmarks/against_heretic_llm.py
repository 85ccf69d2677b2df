"""Compares a search with heretic-llm 1.4.0: `python benchmarks/against_heretic_llm.py [--dtype float32] [--theirs 3]`.

Installs heretic-llm from PyPI into a virtual environment of its own and runs it as a black box: SmolLM2-135M-Instruct,
the demo's prompts, the model's own system prompt, 100 tokens a response, the same dtype. Then runs this program on the
same inputs, first the kernel method with every trial fully evaluated, then `--method` with its defaults: `--ours`
trials for each of `--seeds` seeds, of which the median counts. Both keep an Optuna journal, from which seconds of
trials and hypervolumes (reference point: KL 0.5, the baseline's refusals) are read. Prints both sides.

Only a few trials of heretic-llm are run (`--theirs`). Its time for 60 is its start-up plus 60 times the median of the
trials after the first, which ends the start-up and is taken to last as long; the output says so. With
`--their-batch-size 0` it finds its batch size itself, which takes minutes; 32 is what it found on 2 cores. Run nothing
else at the same time. Needs pexpect (`pip install -e ".[dev]"`).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pexpect
import psutil
from optuna.trial import FrozenTrial

from common import NAMES, hypervolume, search_flags, write_inputs
from heretic.study.schema import TrialRecord

SYSTEM_PROMPT = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What SmolLM2's chat template adds by itself: given to heretic-llm, which would put its own in its place."""


def install(directory: Path) -> Path:
    if not (directory / "bin" / "heretic").exists():
        venv.create(directory, with_pip=True)
        import torch

        version = torch.__version__.split("+")[0]
        packages = [f"torch=={version}", "heretic-llm==1.4.0"]
        subprocess.run([directory / "bin" / "pip", "install", "--quiet", *packages], check=True)
    return directory / "bin" / "heretic"


class Peak(threading.Thread):
    """The peak memory of a process and its children, shared pages counted once (PSS)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self.bytes = 0
        self.start()

    def run(self) -> None:
        while True:
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self.bytes = max(self.bytes, sum(each.memory_full_info().pss for each in family))
            except psutil.Error:
                return
            time.sleep(1)


def trials(journal: Path) -> list[tuple[datetime, list[float]]]:
    """(time of the result, losses) of each complete trial, from an Optuna journal."""
    import optuna

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    [summary] = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    return [(t.datetime_complete, losses(t)) for t in study.trials if t.state.name == "COMPLETE"]


def losses(trial: FrozenTrial) -> list[float]:
    """The KL divergence and the share of the baseline's refusals; of one of our pruned trials, which no front has, 1.

    Optuna's first score is no divergence where that is small: heretic-llm puts a multiple of the refusals there, and so
    do we.
    """
    if "trial" not in trial.user_attrs:
        return [trial.user_attrs["kl_divergence"], trial.values[1]]
    record = TrialRecord.model_validate(trial.user_attrs["trial"])
    return [record.value("kl_divergence"), 1.0 if record.pruned else trial.values[1]]


def figures(begun: datetime, told: list[tuple[datetime, list[float]]], peak: int, own_seconds: list[float]) -> dict:  # type: ignore[type-arg]
    return {
        "start-up": (told[0][0] - begun).total_seconds() - own_seconds[0],
        "trial": statistics.median(own_seconds),
        "trials": len(told),
        "total": (told[-1][0] - begun).total_seconds(),
        "peak": peak / 2**30,
        "points": [((when - begun).total_seconds(), scores) for when, scores in told],
    }


def seconds_between(told: list[tuple[datetime, list[float]]]) -> list[float]:
    times = [when for when, _ in told]
    return [(b - a).total_seconds() for a, b in pairwise(times)]


def run_theirs(program: Path, model: Path, work: Path, arguments: argparse.Namespace) -> dict:  # type: ignore[type-arg]
    study = Path(tempfile.mkdtemp(dir=work))
    flags = ["--model", str(model), "--n-trials", str(arguments.theirs), "--n-startup-trials", str(arguments.theirs)]
    flags += ["--dtypes", json.dumps([arguments.dtype]), "--system-prompt", SYSTEM_PROMPT]
    flags += ["--study-checkpoint-dir", str(study), "--batch-size", str(arguments.their_batch_size)]
    for name in NAMES:
        flag = f"--{name.replace('_', '-')}"
        flags += [f"{flag}.dataset", str(work / f"{name}.txt"), f"{flag}.split", ""]
    begun = datetime.now()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TERM": "xterm"}
    # Both packages have the same name: this process must find its own.
    environment.pop("PYTHONPATH", None)
    child = pexpect.spawn(str(program), flags, env=environment, encoding="utf8", timeout=None, dimensions=(50, 140))
    peak = Peak(child.pid)
    child.expect([r"Pareto", r"Which trial", pexpect.EOF])
    child.close(force=True)
    [journal] = study.glob("*.jsonl")
    told = trials(journal)
    # Its trials run one after the other.
    return figures(begun, told, peak.bytes, seconds_between(told) or [0.0])


def run_ours(model: Path, work: Path, dtype: str, count: int, method: str, *more: str) -> dict:  # type: ignore[type-arg]
    study = Path(tempfile.mkdtemp(dir=work))
    flags = [*search_flags(model, work, study, dtype, count, method), *more]
    begun = datetime.now()
    with subprocess.Popen([sys.executable, "-m", "heretic", *flags], stdout=subprocess.DEVNULL) as process:
        peak = Peak(process.pid)
    [journal] = study.glob("*.jsonl")
    told = trials(journal)
    searched = (told[-1][0] - told[0][0]).total_seconds()
    # Several candidates are measured at once: the rate at which they finish counts.
    return figures(begun, told, peak.bytes, [searched / (len(told) - 1)])


def once(path: Path, side: Callable[[], dict]) -> dict:  # type: ignore[type-arg]
    """The result of a side, from its file if it was run before. Remove the file to repeat the run."""
    if not path.exists():
        path.write_text(json.dumps(side()))
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def volume_after(side: dict, seconds: float) -> float:  # type: ignore[type-arg]
    return hypervolume([(scores[0], scores[1]) for when, scores in side["points"] if when <= seconds])


def sides(arguments: argparse.Namespace) -> tuple[dict, list[dict], dict]:  # type: ignore[type-arg]
    """Ours with all trials fully evaluated, our studies by seed, and theirs."""
    work, dtype = arguments.work.resolve(), arguments.dtype
    work.mkdir(parents=True, exist_ok=True)
    model, program = write_inputs(work), install(work / "venv")

    def ours(name: str, trials: int, method: str, *flags: str) -> dict:  # type: ignore[type-arg]
        return once(work / f"{name}.json", lambda: run_ours(model, work, dtype, trials, method, *flags))

    full = ours(f"full-{dtype}", arguments.full, "kernel", "--no-prune-dominated")
    name, flags = f"study-{dtype}-{arguments.method}", []
    if arguments.startup is not None:
        name, flags = f"{name}-startup{arguments.startup}", ["--n-startup-trials", str(arguments.startup)]
    seeds = range(arguments.seeds)
    studies = [ours(f"{name}-{seed}", arguments.ours, arguments.method, "--seed", str(seed), *flags) for seed in seeds]
    theirs = once(work / f"theirs-{dtype}.json", lambda: run_theirs(program, model, work, arguments))
    return full, studies, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--theirs", type=int, default=3, help="trials of heretic-llm")
    parser.add_argument("--full", type=int, default=8, help="our fully evaluated trials")
    parser.add_argument("--ours", type=int, default=60, help="trials of our study (8 are a learned path)")
    parser.add_argument("--method", default="kernel", help="of our study: kernel, or learned")
    parser.add_argument("--seeds", type=int, default=1, help="runs of our study, each with another seed")
    parser.add_argument("--startup", type=int, help="n_startup_trials of our study, if not the default")
    parser.add_argument("--their-batch-size", type=int, default=32, help="0: found by heretic-llm itself")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "against-heretic-llm")
    arguments = parser.parse_args()
    full, studies, theirs = sides(arguments)
    studies.sort(key=lambda each: each["total"])
    study = studies[(len(studies) - 1) // 2]
    whole = theirs["start-up"] + arguments.ours * theirs["trial"]
    print(f"{'':38}{'heretic-llm':>12}{'heretic':>12}{'ratio':>8}")
    for label, a, b in (
        ("seconds of a fully evaluated trial", theirs["trial"], full["trial"]),
        ("seconds of start-up", theirs["start-up"], study["start-up"]),
        (f"seconds to {arguments.ours} trials", whole, study["total"]),
        ("peak memory, GiB", theirs["peak"], study["peak"]),
    ):
        print(f"{label:38}{a:12.1f}{b:12.1f}{a / b:8.1f}")
    print(f"(theirs: {theirs['trials']} trials were run; the median is that of all after the first,")
    print(f"and {arguments.ours} trials take start-up + {arguments.ours} x the median)")
    times = ", ".join(f"{each['total']:.0f}" for each in studies)
    print(f"(ours: the median of {len(studies)} seeds; {times} s)")
    for seconds in (120, 240, 500, 700, study["total"], theirs["total"]):
        print(
            f"hypervolume of the front after {seconds:5.0f} s: heretic-llm {volume_after(theirs, seconds):.3f}, "
            f"heretic {volume_after(study, seconds):.3f}"
        )


if __name__ == "__main__":
    main()
