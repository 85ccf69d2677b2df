"""Stops the program in each phase of its work by real signals, and checks the files and processes that are left.

python tools/kill_by_phase.py                 # every phase, by SIGINT, SIGTERM and SIGHUP, once and twice
python tools/kill_by_phase.py export report   # these

Each run is a process of its own on the planted model, which waits for the signal where the phase begins. Expected: the
signal's exit status, no traceback, no process left, no temporary or incomplete directory, and a study that opens.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SECONDS = 60
REACHED = "== the phase has begun =="
WAIT = """
import importlib, sys, time
name, *arguments = sys.argv[1:]
module, _, path = name.partition(":")
owner = importlib.import_module(module)
*owners, last = path.split(".")
for each in owners:
    owner = getattr(owner, each)
def wait(*_, **__):
    print({reached!r}, file=sys.stderr, flush=True)
    time.sleep({seconds})
setattr(owner, last, wait)
from heretic.cli import main
sys.argv[1:] = arguments
sys.exit(main())
"""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: the function that it calls first (module:name), and the flags or the command that reach it."""

    function: str
    flags: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    keeps: int = field(default=0)


EXPORT = ("--output", "{home}/out/edited", "--trial", "lowest-kl")
EVALUATE = ("evaluate", "{model}", "{prompts}", "--max-response-length", "4")
PHASES = {
    "download": Phase("huggingface_hub:snapshot_download", command=("owner/name",)),
    "load": Phase("heretic.model.loading.load:_load"),
    "batch size": Phase("heretic.session.autotune:find_batch_size", ("--batch-size", "0")),
    "directions": Phase("heretic.session.start:fit_tensors"),
    "baseline": Phase("heretic.evaluation.evaluator:Evaluator.baseline"),
    "previews": Phase("heretic.search.startup_order:StartupQueue._preview"),
    "trial": Phase("heretic.search.measurer:InProcessMeasurer._measure", ("--n-workers", "1")),
    "trial in processes": Phase("heretic.evaluation.evaluator:Evaluator.evaluate", ("--n-workers", "2")),
    "held-out": Phase("heretic.session.heldout:HeldoutEvaluation.run", ("--heldout-trials", "2"), keeps=6),
    "export": Phase("heretic.session.save:_load_written", EXPORT, keeps=6),
    "card": Phase("heretic.session.save:write_card", EXPORT, keeps=6),
    "report": Phase("heretic.commands.report:render", command=("report", "{study}", "--no-model"), keeps=6),
    "later export": Phase("heretic.session.save:_score", command=("export", "{study}", *EXPORT), keeps=6),
    "evaluate": Phase("heretic.evaluation.evaluator:Evaluator.evaluate", command=EVALUATE),
    "learned path": Phase("heretic.session.learning:LearnedPaths.next_point", ("--method", "learned")),
}


def flags_of(planted: Path, home: Path) -> list[str]:
    """A short run on the planted model."""
    files = {
        f"--{side}{part}prompts": f"{planted}/{side}_{name}.txt"
        for side in ("good", "bad")
        for part, name in (("-", "direction"), ("-evaluation-", "search"), ("-heldout-", "report"))
    }
    others = "--system-prompt none --dtypes float32 --batch-size 64 --max-response-length 4 --n-trials 6 --n-workers 1"
    words = [
        *others.split(),
        "--method",
        "kernel",
        "--heldout-trials",
        "0",
        "--study-checkpoint-dir",
        str(home / "checkpoints"),
    ]
    return [*(word for pair in files.items() for word in pair), *words]


def arguments_of(phase: Phase, planted: Path, home: Path, study: Path) -> list[str]:
    """The command line that reaches the phase."""
    flags = flags_of(planted, home)
    named = {"home": str(home), "study": str(study), "model": str(planted / "planted")}
    if not phase.command:
        given = [each.format(**named) for each in phase.flags]
        pairs = zip(flags[::2], flags[1::2], strict=True)
        kept = [word for flag, value in pairs if flag not in given for word in (flag, value)]
        return [named["model"], *kept, *given]
    prompts = [word for pair in zip(flags[::2], flags[1::2], strict=True) if "-evaluation-" in pair[0] for word in pair]
    words = [[each.format(**named)] if each != "{prompts}" else prompts for each in phase.command]
    return [word for each in words for word in each]


def stop(phase: Phase, number: signal.Signals, times: int, planted: Path, study: Path) -> Iterator[str]:
    """The faults of a run that the signal `number` ended in the phase."""
    with tempfile.TemporaryDirectory() as place:
        home, temporary = Path(place), Path(place) / "tmp"
        temporary.mkdir()
        copied = home / "checkpoints"
        copied.mkdir()
        for path in study.parent.glob(f"{study.stem}*"):
            if phase.command:
                shutil.copy(path, copied)
        code = WAIT.format(reached=REACHED, seconds=SECONDS)
        words = arguments_of(phase, planted, home, copied / study.name)
        command = [sys.executable, "-c", code, phase.function, *words]
        environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": f"{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
        # Cached measurements of an earlier run would skip the phase that takes them.
        environment |= {"XDG_CACHE_HOME": str(home / "cache")}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=home) as process:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if REACHED in line:
                    break
            else:
                yield f"the phase was not reached:  {''.join(said[-3:])}"
                return
            children = psutil.Process(process.pid).children(recursive=True)
            began = time.monotonic()
            for _ in range(times):
                process.send_signal(number)
                time.sleep(0.2 if times > 1 else 0)
            rest = _rest(process)
        yield from _left(process.returncode, number, times, rest, children, time.monotonic() - began)
        yield from _kept(home, temporary, phase)


def _rest(process: "subprocess.Popen[str]") -> str:
    """The remaining output of the process until it ends."""
    assert process.stderr is not None
    rest = process.stderr.read()
    process.wait(SECONDS)
    return rest


def _left(
    status: int, number: signal.Signals, times: int, rest: str, children: list[psutil.Process], seconds: float
) -> Iterator[str]:
    # A shell shows both alike. The second signal may reach an interpreter that has already removed its handlers.
    if status not in (STATUS[number], -number if times > 1 else STATUS[number]):
        yield f"status {status} instead of {STATUS[number]}"
    if "Traceback" in rest:
        yield f"a traceback: {rest.strip().splitlines()[-1]}"
    if seconds > 20:
        yield f"it took {seconds:.0f} s"
    alive = psutil.wait_procs(children, timeout=10)[1]
    if alive:
        yield f"{len(alive)} processes are left"


def _kept(home: Path, temporary: Path, phase: Phase) -> Iterator[str]:
    left = [path.name for path in temporary.iterdir()]
    if left:
        yield f"temporary files are left: {left}"
    if (home / "out").exists() and list((home / "out").iterdir()):
        yield f"an export is left: {[path.name for path in (home / 'out').iterdir()]}"
    journals = [path for path in (home / "checkpoints").glob("*.jsonl") if "." not in path.stem]
    if journals and phase.keeps:
        command = [sys.executable, "-m", "heretic", "results", str(journals[0]), "--json"]
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if f'"complete": {phase.keeps}' not in done.stdout:
            yield f"trials are lost: {done.stdout[:200]} {done.stderr[-200:]}"


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from tests.support.planted import write_planted

    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        planted = Path(place)
        write_planted(planted)
        words = [str(planted / "planted"), *flags_of(planted, planted)]
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}"}
        subprocess.run([sys.executable, "-m", "heretic", *words], check=True, capture_output=True, env=environment)
        [study] = (planted / "checkpoints").glob("*.jsonl")
        for name in sys.argv[1:] or PHASES:
            for number in STATUS:
                for times in (1, 2):
                    faults = list(stop(PHASES[name], number, times, planted, study))
                    wrong += bool(faults)
                    print(f"{name:<20} {number.name:<8} x{times}  {'; '.join(faults) or 'right'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
