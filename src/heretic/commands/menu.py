"""What follows a search: its front is shown and measured, and what is chosen from it is done."""

from collections.abc import Callable

from ..events import Chooser, Reporter
from ..search.measurer import Compile
from ..session.heldout import FrontMeasurement
from ..study.pareto import knee, pareto_front
from ..study.study import Study
from .menu_actions import Looking
from .menu_export import Exporter


def show_front(study: Study, reporter: Reporter) -> None:
    """The front with its knee, and whether it lies on a bound of the search space."""
    baseline = study.record.baseline
    front = pareto_front(study.trials, baseline)
    if not front:
        return
    reporter.front(front, knee(front, baseline), baseline)
    bounds = study.space.on_bounds(trial.parameters for trial in front)
    if bounds:
        reporter.say(f"The front lies on bounds of the search space: {'; '.join(bounds)}.")


class Ending:
    """The menu of a study and what its entries do."""

    def __init__(
        self,
        study: Study,
        measurement: FrontMeasurement,
        compiled: Compile,
        exporter: Exporter,
        looking: Looking,
        chooser: Chooser,
        reporter: Reporter,
    ) -> None:
        self._study = study
        self._measurement = measurement
        self._compiled = compiled
        self._exporter = exporter
        self._looking = looking
        self._chooser = chooser
        self._reporter = reporter

    def run(self, search: Callable[[int], bool]) -> int:
        """Shows the front, measures it and does what is chosen until it is to leave; returns the program's status.

        `search` goes on until the study has so many trials, and says whether it got there.
        """
        show_front(self._study, self._reporter)
        self._measure()
        while True:
            action = self._chooser.next_action(
                pareto_front(self._study.trials, self._study.record.baseline), self._study.record.baseline
            )
            if action.kind == "more":
                whole = search(self._study.n_finished() + action.n_trials)
                show_front(self._study, self._reporter)
                # Who stops a search wants the menu, not the measurement that another Ctrl+C would have to stop.
                if whole:
                    self._measure()
            elif action.kind in ("save", "upload"):
                self._exporter.run(action, may_fail=self._chooser.asks)
            elif action.kind == "leave":
                return 0
            else:
                self._looking.look(action)

    def _measure(self) -> None:
        """The measurement at the end; a person may stop it and choose without."""
        try:
            self._measurement.run(self._study, self._compiled)
        except KeyboardInterrupt:
            if not self._chooser.asks:
                raise
            self._reporter.say("The measurement was stopped; the rest of it follows when the study is opened again.")
