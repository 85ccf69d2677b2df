"""What a cluster costs: `python benchmarks/cluster.py [--parts speed-up model driver same start] [--trials N]`.

- speed-up: a local Ray of 1, 2 and 4 actors whose trials sleep for a known time, which measures the scheduling alone;
  then trials of no time, for the overhead of one, and the bytes that a request and its result take.
- model: trials a minute of SmolLM2-135M-Instruct by one and by two actors of one thread each.
- driver: simulated actors on a clock of their own (trials of 1 to 30 s, drawn uniformly), real ask and tell; medians by
  the number of trials, and the memory of the process.
- same: one study by this process, one actor, four actors and actors on two nodes, and whether its trials are the same.
- start: seconds from `heretic MODEL --ray` to the first trial, on a tiny random model, and without --ray.

All actors run on one machine: the time of a network is not included.
"""

import argparse
import os
import pickle
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.planted import write_planted
from tests.support.recorders import Recorder
from tests.support.simulated_actors import SimulatedSystem
from tests.support.study_toys import BASELINE, SPACE, metrics, record, values_of
from tests.support.toy_worker import ToyWorker

from heretic.cli import main as main_of_heretic
from heretic.config import Settings
from heretic.engine.protocol import no_progress
from heretic.evaluation.evaluator import Evaluation
from heretic.evaluation.pruning.statistics import PruningStatistics
from heretic.evaluation.scorers.base import Measurement
from heretic.search.cluster.pool import ActorPool
from heretic.search.cluster.ray_system import ActorNeeds, RaySystem, ray_cluster
from heretic.search.cluster.tasks import Task
from heretic.search.measurer import EvaluationRequest
from heretic.study.pareto import pareto_front, pruning_limit
from heretic.study.reader import RecordedStudy
from heretic.study.sampler import SamplerOptions
from heretic.study.study import Study

SLEEP, SLEEPING, EMPTY = 0.25, 80, 400
"""Seconds of a sleeping trial, and trials of the two kinds: enough for a steady rate within half a minute."""
PARTS = ("speed-up", "model", "driver", "same", "start")
FIRST = 4
"""Trials of a model that are not counted."""


def speed_up() -> None:
    with ray_cluster(Settings(ray=True)) as ray:
        seconds = {}
        for count in (1, 2, 4):
            # A quarter of a CPU each: sleeping takes none.
            pool = ActorPool(RaySystem(ray, ActorNeeds(0, 0.25, 1 << 20), ToyWorker), Recorder(), most=count)
            pool.open(lambda _: "known")
            warm = [Task("perform", (0, SLEEP), "trial") for _ in range(4 * count)]
            while len({each[0] for each in pool.map(warm, no_progress)}) < count:
                warm = [Task("perform", (0, SLEEP), "trial") for _ in range(4 * count)]
            started = time.monotonic()
            pool.map([Task("perform", (0, SLEEP), "trial") for _ in range(SLEEPING)], no_progress)
            seconds[count] = time.monotonic() - started
            started = time.monotonic()
            pool.map([Task("perform", (0,), "trial") for _ in range(EMPTY)], no_progress)
            overhead = 1000 * (time.monotonic() - started) / EMPTY
            print(
                f"{count} actors: {SLEEPING} trials of {SLEEP} s in {seconds[count]:.2f} s, speed-up "
                f"{seconds[1] / seconds[count]:.2f}; overhead of a trial {overhead:.1f} ms"
            )
            pool.close()


def model(trials: int = 16, length: int = 12) -> None:
    """The rate after the first trials, which wait for the second actor; each trial is measured whole."""
    from common import search_flags, write_inputs

    rates: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        loaded = write_inputs(place)
        for count in (1, 2):
            command = search_flags(loaded, place, place / str(count), "bfloat16", trials)
            command += ["--ray", "--max-actors", str(count), "--threads-per-model", "1", "--open-candidates", "8"]
            command += ["--no-prune-dominated", "--candidates-per-forward", "1", "--max-response-length", str(length)]
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                assert main_of_heretic(command) == 0
            [journal] = (place / str(count)).glob("*.jsonl")
            found = RecordedStudy(journal).optuna.get_trials()
            ends = sorted(each.datetime_complete for each in found if each.datetime_complete is not None)
            rates[count] = 60 * (len(ends) - 1 - FIRST) / (ends[-1] - ends[FIRST]).total_seconds()
            by = len({each.user_attrs.get("measured by") for each in found})
            print(f"{by} actors: {rates[count]:.1f} trials a minute, {rates[count] / rates[1]:.2f} of one", flush=True)


def bytes_of_a_trial() -> None:
    """Of a study of 200 trials: the front goes with every request."""
    with tempfile.TemporaryDirectory() as directory, _study(Path(directory)) as study:
        for candidate in (study.ask(1)[0] for _ in range(200)):
            refusals, kl = values_of(candidate.parameters)
            study.tell(candidate, metrics(refusals, kl), (kl, refusals / BASELINE.value("refusals")))
        front = pareto_front(study.trials, BASELINE)
        [candidate] = study.ask(1)
        declined = tuple(draw if draw < 30 else None for draw in random.Random(0).choices(range(60), k=100))
        known = PruningStatistics.of(100).learn(declined)
        limit = partial(pruning_limit, front, BASELINE)
        request = EvaluationRequest(candidate.number, candidate.parameters, limit, known)
        values = {"refusals": Measurement(12, declined_at=declined), "kl_divergence": Measurement(0.1)}
        sent, received = (len(pickle.dumps(each)) for each in ([request], [(request, Evaluation(values))]))
    print(f"bytes of a trial: {sent} sent (a front of {len(front)} trials with it), {received} received")


def driver(trials: int, actors: int, sampler: str) -> None:
    draw = random.Random(0)
    system = SimulatedSystem({"node": actors}, seconds=lambda *_: draw.uniform(1, 30), answer=lambda _, given: given[0])
    pool = ActorPool(system, Recorder())
    pool.open(lambda _: "known")
    asks: deque[float] = deque(maxlen=500)
    tells: deque[float] = deque(maxlen=500)
    process, began, others = psutil.Process(), time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as directory, _study(Path(directory), sampler) as study:
        waiting: deque[Any] = deque()
        done: set[int] = set()

        def request() -> None:
            started = time.perf_counter()
            [candidate] = study.ask(1)
            asks.append(time.perf_counter() - started)
            waiting.append(candidate)
            pool.submit(Task("measure", (candidate.number,), f"trial {candidate.number}"))

        for _ in range(actors):
            request()
        finished = 0
        while finished < trials:
            started = time.perf_counter()
            done |= {outcome.value for outcome in pool.outcomes(no_progress)}
            others += time.perf_counter() - started
            while waiting and waiting[0].number in done and finished < trials:
                candidate = waiting.popleft()
                refusals, kl = values_of(candidate.parameters)
                started = time.perf_counter()
                study.tell(candidate, metrics(refusals, kl), (kl, refusals / BASELINE.value("refusals")))
                # What the loop reads after each trial: the front, and how many are done.
                assert study.n_finished() == finished + 1
                study.front()
                tells.append(time.perf_counter() - started)
                finished += 1
                request()
                if finished in (500, 1000, 2000, 5000) or finished == trials:
                    print(
                        f"{finished} trials, {actors} actors, {sampler}: ask {1000 * statistics.median(asks):.2f} ms, "
                        f"tell {1000 * statistics.median(tells):.2f} ms (medians of the last {len(asks)}), the pool "
                        f"{1000 * others / finished:.2f} ms a trial; {process.memory_info().rss >> 20} MB; simulated "
                        f"{system.now():.0f} s in {time.monotonic() - began:.0f} s",
                        flush=True,
                    )


def start() -> None:
    """Seconds to the first trial's line."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        model = write_planted(place)
        flags = [*_flags(place), "--n-trials", "2"]
        for name, more in (("this process", []), ("--ray", ["--ray", "--max-actors", "1"])):
            own = ["--study-checkpoint-dir", str(place / name.strip("-").replace(" ", "_"))]
            command = [sys.executable, "-m", "heretic", str(model), *flags, *own, *more]
            began = time.monotonic()
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            with subprocess.Popen(command, text=True, env=os.environ, **pipes) as run:
                assert run.stdout is not None
                first = next((time.monotonic() - began for line in run.stdout if line.startswith("Trial ")), None)
                run.stdout.read()
            print(f"first trial after {first:.1f} s ({name})" if first is not None else f"no trial ({name})")


def same(trials: int = 24) -> None:
    """The same seed and the same number of open candidates, in float32."""
    from tests.support.ray_cluster import ray_nodes

    def open_all(pool: ActorPool, *given: Any) -> Any:
        """Trials of this model are so short that the first actor would measure them all."""
        facts = open_first(pool, *given)
        while not all(actor.ready for actor in pool._actors):
            pool._turn(no_progress)
        return facts

    open_first, ActorPool.open = ActorPool.open, open_all  # type: ignore[method-assign]

    def run(place: Path, name: str, *more: str) -> list[Any]:
        own = ["--study-checkpoint-dir", str(place / name), "--open-candidates", "8", "--n-trials", str(trials)]
        command = [str(place / "planted"), *_flags(place), *own, "--heldout-trials", "0", *more]
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            assert main_of_heretic(command) == 0
        [journal] = (place / name).glob("*.jsonl")
        found = RecordedStudy(journal)
        actors = {each.user_attrs.get("measured by") for each in found.optuna.get_trials()}
        print(f"{name}: {len(found.trials)} trials, measured by {', '.join(sorted(map(str, actors)))}", flush=True)
        return found.trials

    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        write_planted(place)
        found = [run(place, "this process", "--no-ray")]
        with ray_nodes(4):
            found += [run(place, f"{count} actors", "--ray", "--max-actors", str(count)) for count in (1, 4)]
        with ray_nodes(1, 1):
            found.append(run(place, "two nodes", "--ray"))
        print("the trials are the same" if all(each == found[0] for each in found) else "the trials DIFFER")


def _flags(place: Path) -> list[str]:
    """Of a short run on the planted model."""
    flags = ["--system-prompt", "none", "--dtypes", "float32", "--max-response-length", "4"]
    for side in ("good", "bad"):
        flags += [f"--{side}-prompts", str(place / f"{side}_direction.txt")]
        flags += [f"--{side}-evaluation-prompts", str(place / f"{side}_search.txt")]
    return flags


def _study(directory: Path, sampler: str = "tpe") -> Study:
    defaults = Settings()
    options = SamplerOptions(sampler, 0, defaults.n_startup_trials, defaults.n_ei_candidates)  # type: ignore[arg-type]
    study = Study(directory / "study.jsonl", SPACE, options)
    study.begin(record())
    return study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts",
        nargs="+",
        default=PARTS,
        choices=PARTS,
    )
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--actors", type=int, default=1_000)
    parser.add_argument("--samplers", nargs="+", default=["tpe", "random"])
    chosen = parser.parse_args()
    if "speed-up" in chosen.parts:
        speed_up()
        bytes_of_a_trial()
    if "model" in chosen.parts:
        model()
    if "driver" in chosen.parts:
        for sampler in chosen.samplers:
            driver(chosen.trials, chosen.actors, sampler)
    if "same" in chosen.parts:
        same()
    if "start" in chosen.parts:
        start()


if __name__ == "__main__":
    main()
