"""Draws the pictures of the documentation from a recorded study: `python tools/pictures.py STUDY DIRECTORY [SECONDS]`.

front.svg is the chart of the front in `heretic ui`; terminal.svg is the live view after the last trial. SECONDS are
those of the search, as it prints them at its end; without them, those in which trials ran, which leaves out learning.
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from heretic.events import SearchState
from heretic.study.pareto import knee, pareto_front
from heretic.study.reader import RecordedStudy
from heretic.ui.live import LAST_TRIALS, LiveReporter
from heretic.web.charts import front_svg

WIDTH, HEIGHT = 92, 40


def terminal_svg(study: RecordedStudy, seconds: float | None) -> str:
    """The running search on a terminal, after the study's last trial."""
    console = Console(width=WIDTH, height=HEIGHT, record=True, file=io.StringIO(), force_terminal=True)
    prompts = sum(each.count for name, each in study.record.prompts.items() if "evaluation" in name)
    trials = study.trials
    quiet = Console(file=io.StringIO(), width=WIDTH, height=HEIGHT, force_terminal=True)
    with LiveReporter(quiet).search(state(study, len(trials) - LAST_TRIALS, seconds), prompts) as view:
        for count in range(len(trials) - LAST_TRIALS + 1, len(trials) + 1):
            view.complete(trials[count - 1], state(study, count, seconds))
        console.print(view)
    # The picture would load fonts from another server; any monospaced font will do.
    return re.sub(r"\s*@font-face \{.*?\}", "", console.export_svg(title="heretic"), flags=re.DOTALL)


def state(study: RecordedStudy, count: int, seconds: float | None) -> SearchState:
    """The state of the search after `count` trials; `seconds`, or the journal's times."""
    trials = study.trials[:count]
    front = pareto_front(trials, study.baseline)
    wanted = len(study.trials)
    elapsed = seconds_of(study, {trial.number for trial in trials}) if seconds is None else seconds * count / wanted
    return SearchState(
        finished=count,
        wanted=wanted,
        front=front,
        best=knee(front, study.baseline) if front else None,
        baseline=study.baseline,
        elapsed=elapsed,
        remaining=elapsed / max(1, count) * (wanted - count),
        trials=trials,
    )


def seconds_of(study: RecordedStudy, numbers: set[int]) -> float:
    """Seconds in which any of these trials ran: several ran at once, and a search may have paused."""
    timed = [trial for trial in study.optuna.get_trials(deepcopy=False) if trial.number in numbers]
    seconds, until = 0.0, None
    for trial in sorted(timed, key=lambda each: each.datetime_start):
        start = trial.datetime_start if until is None else max(until, trial.datetime_start)
        seconds += max(0.0, (trial.datetime_complete - start).total_seconds())
        until = trial.datetime_complete if until is None else max(until, trial.datetime_complete)
    return seconds


def main() -> None:
    study, directory = RecordedStudy(Path(sys.argv[1])), Path(sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else None
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "front.svg").write_text(front_svg(study.trials, study.baseline) + "\n", encoding="utf-8")
    (directory / "terminal.svg").write_text(terminal_svg(study, seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
