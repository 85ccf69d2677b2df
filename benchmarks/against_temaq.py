"""Compares a search with temaq-abliterated 1.1.1: `python benchmarks/against_temaq.py [--minutes 6]`.

Both search the same model (SmolLM2-135M-Instruct, bfloat16) for the same time, on the demo's direction and search
prompts. temaq-abliterated runs as a black box in a virtual environment of its own, its search limited to `--minutes`.
This program gets the whole time that temaq-abliterated takes, with its verification and export, and is stopped at that
second. Then `benchmarks/measure.py`, which imports neither, measures the written models on held-out prompts: temaq's
model, and at most `--most` of our front. Run nothing else at the same time.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from common import NAMES, demo_settings, hypervolume, search_flags, write_inputs
from heretic.config import resolve_heldout_prompts
from heretic.prompts.loading import load_prompts
from heretic.study.pareto import pareto_front
from heretic.study.reader import RecordedStudy


def write_prompts(work: Path) -> None:
    """Held-out prompts and markers, one a line; for temaq, which splits prompts itself, all prompts that ours gets."""
    settings = demo_settings()
    sources = resolve_heldout_prompts(settings, settings)
    assert sources is not None
    for kind, source in (("good", sources.good_heldout_prompts), ("bad", sources.bad_heldout_prompts)):
        (work / f"{kind}_report.txt").write_text("".join(f"{prompt.text}\n" for prompt in load_prompts(source).prompts))
        parts = [(work / f"{name}.txt").read_text() for name in NAMES if name.startswith(kind)]
        (work / f"{kind}_all.txt").write_text("".join(parts))
    (work / "markers.txt").write_text("".join(f"{marker}\n" for marker in settings.refusal_markers))


def install(directory: Path) -> Path:
    if not (directory / "bin" / "temaq-abliterated").exists():
        venv.create(directory, with_pip=True)
        import torch

        packages = [f"torch=={torch.__version__.split('+')[0]}", "temaq-abliterated==1.1.1"]
        subprocess.run([directory / "bin" / "pip", "install", "--quiet", *packages], check=True)
    return directory / "bin" / "temaq-abliterated"


def run_theirs(program: Path, model: Path, work: Path, minutes: float) -> float:
    """Seconds of temaq-abliterated from start to end; writes its model to work/theirs."""
    flags = [str(model), "--device", "cpu", "--workdir", tempfile.mkdtemp(dir=work), "--output", str(work / "theirs")]
    flags += ["--harmful-file", str(work / "bad_all.txt"), "--harmless-file", str(work / "good_all.txt")]
    flags += ["--time-budget-min", str(minutes), "--select", "auto", "--no-report", "--overwrite-output"]
    begun = time.monotonic()
    with (work / "theirs.log").open("w") as log:
        subprocess.run(
            [program, *flags],
            check=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    return time.monotonic() - begun


def run_ours(model: Path, work: Path, seconds: float, method: str) -> Path:
    """The journal of a study that was stopped after `seconds`, start-up included."""
    study = Path(tempfile.mkdtemp(dir=work))
    flags = search_flags(model, work, study, "bfloat16", 1000, method)
    with (
        (work / "ours.log").open("w") as log,
        subprocess.Popen([sys.executable, "-m", "heretic", *flags], stdout=log, stderr=log) as process,
    ):
        time.sleep(seconds)
        # Ctrl+C: the front so far stays.
        process.send_signal(signal.SIGINT)
    [journal] = study.glob("*.jsonl")
    return journal


def write_ours(journal: Path, work: Path, most: int) -> list[Path]:
    """At most `most` models of the front, spread over it from one end to the other."""
    study = RecordedStudy(journal)
    front = pareto_front(study.trials, study.baseline)
    count = min(most, len(front))
    chosen = sorted({round(index * (len(front) - 1) / max(1, count - 1)) for index in range(count)})
    written = []
    for trial in (front[index] for index in chosen):
        output = Path(tempfile.mkdtemp(dir=work)) / f"trial-{trial.number}"
        flags = ["--trial", str(trial.number), "--export", "merge", "--output", str(output)]
        subprocess.run(
            [sys.executable, "-m", "heretic", "export", str(journal), *flags], check=True, capture_output=True
        )
        written.append(output)
    return written


def measured(base: Path, models: list[Path], work: Path) -> list[dict[str, Any]]:
    """The metrics from benchmarks/measure.py: of the base first, then of each model."""
    flags = ["--good", work / "good_report.txt", "--bad", work / "bad_report.txt", "--markers", work / "markers.txt"]
    script = Path(__file__).parent / "measure.py"
    done = subprocess.run([sys.executable, script, base, *models, *flags], check=True, capture_output=True, text=True)
    entries = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [entry for entry in entries if "model" in entry]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6, help="of temaq-abliterated's search")
    parser.add_argument("--method", default="auto", help="our method")
    parser.add_argument("--most", type=int, default=5, help="models of our front that are measured")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "against-temaq")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    model, program = write_inputs(work), install(work / "venv")
    write_prompts(work)
    seconds = run_theirs(program, model, work, arguments.minutes)
    journal = run_ours(model, work, seconds, arguments.method)
    trials = RecordedStudy(journal).trials
    print(f"Both had {seconds:.0f} s; ours did {len(trials)} trials, {sum(t.pruned for t in trials)} of them pruned.")
    base, theirs, *ours = measured(model, [work / "theirs", *write_ours(journal, work, arguments.most)], work)
    print(f"baseline: {base['refusals']} of {base['of']} refusals")
    for name, entries in (("temaq-abliterated", [theirs]), ("heretic", ours)):
        figures = "; ".join(f"{each['refusals']} of {each['of']} at KL {each['kl']}" for each in entries)
        volume = hypervolume([(each["kl"], each["refusals"] / base["refusals"]) for each in entries])
        print(f"{name}: hypervolume {volume:.3f} ({figures})")


if __name__ == "__main__":
    main()
