"""What benchmarks/gpu.py runs in processes of their own (tests, the whole program), and the lines of its table."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

TRIALS, PROMPTS, LENGTH = 200, 100, 100
TINY_PROMPTS, TINY_LENGTH, TINY_TRIALS = 8, 12, 3
ROOT = Path(__file__).parents[1]
TESTS = ("tests/engine", "tests/model/kernels", "tests/end_to_end/test_gpu.py")


@dataclass
class Run:
    """The arguments, and the lines of the table: what was measured, its value and its target."""

    tiny: bool
    given: int | None
    trials: int
    candidate: float | None = None
    first: float | None = None
    bits: str = ""
    failed: bool = False
    lines: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def prompts(self) -> int:
        return TINY_PROMPTS if self.tiny else PROMPTS

    @property
    def length(self) -> int:
        return TINY_LENGTH if self.tiny else LENGTH

    def add(self, name: str, reached: str, asked: str = "") -> None:
        name, asked = name + self.bits, "" if self.bits or self.tiny else asked
        self.lines.append((name, reached, asked))
        self.failed |= reached.startswith("failed: ")
        print(f"  {name}: {reached}{f' (asked: {asked})' if asked else ''}", flush=True)


def run_tests(run: Run) -> None:
    """Those of the kernels, of recorded steps and of a search on a GPU; elsewhere they are skipped."""
    print("tests:", flush=True)
    plain = ["-p", "no:benchmark", "-p", "no:cacheprovider", "-m", "gpu"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, *TESTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=from_source(),
    )
    print(done.stdout[-6000:] + done.stderr[-2000:])
    lines = done.stdout.strip().splitlines()
    run.add("tests that need a GPU", lines[-1].strip("= ") if lines else f"exit status {done.returncode}", "all pass")
    run.failed |= done.returncode != 0


def from_source() -> dict[str, str]:
    """An environment in which Python finds the program's source and the tools of its tests."""
    places = [str(ROOT / "src"), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}


def measure_command(run: Run, model: Path) -> None:
    """The program as a user runs it, in a process of its own."""
    print("the whole command:")
    if not model.is_file():
        print(f"  left out: {model} is not there (heretic demo fetches it; or --smollm2 FILE)")
        return
    with tempfile.TemporaryDirectory() as directory:
        flags = ["--preset", "disclaimer", "--n-trials", str(run.trials), "--trial", "knee", "--export", "merge"]
        flags += ["--method", "kernel"]
        flags += ["--output", f"{directory}/edited", "--study-checkpoint-dir", directory, "--resume", "restart"]
        if run.tiny:
            flags += ["--max-response-length", "4", "--heldout-trials", "0", "--no-order-startup-trials"]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "heretic", str(model), *flags], capture_output=True, text=True, env=from_source()
        )
        seconds = time.perf_counter() - started
    print("\n".join(f"    {line}" for line in done.stdout.splitlines() if not line.startswith("Trial ")))
    if done.returncode:
        print(done.stderr[-2000:])
        raise RuntimeError(f"exit status {done.returncode}")
    run.add(f"the whole command on SmolLM2, {run.trials} trials", f"{seconds:.0f} s", "<= 35 s")
