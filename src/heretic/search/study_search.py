"""The searches of a run on one study, and the held-out evaluation of its front."""

from collections.abc import Sequence
from functools import cached_property, partial

from ..ablation.methods.registry import find_method
from ..config.changes import values_as_json
from ..errors import StudyError
from ..evaluation.heldout.evaluate import HeldoutPrompts
from ..evaluation.heldout.measurer import HeldoutMeasurer, SharedForwards
from ..evaluation.pruning.statistics import PruningStatistics
from ..evaluation.scorers.kl import vocabulary_size
from ..report.tables import show_heldout
from ..session.context import RunningStudy
from ..session.forecast import kept_speed
from ..session.heldout import HeldoutEvaluation, numbered, response_length, spread
from ..session.learning import LearnedPaths, wanted_candidates
from ..session.recorded_settings import METRIC_SETTINGS
from ..session.records import run_record
from ..session.start import FixedCandidates, first_candidates
from ..study.pareto import pareto_front, select
from ..study.schema import BaselineRecord, TrialRecord
from .cluster.measurer import chosen_parallelism, open_heldout, open_measurer
from .forked_learning import ForkedAnswers, ForkedStepRunner, ForkedTasks, can_fork_steps
from .learned_points import LearnedPoints
from .loop import Search
from .measurer import Measurer
from .parallelism import Parallelism
from .process_pool import ProcessPool, can_fork
from .time_budget import HeldoutCost


class StudySearch:
    """The searches of one start of the program, and the held-out evaluation after them.

    Each search continues with the statistics of the earlier ones. `asks` says whether somebody chooses the trial.
    """

    def __init__(
        self, running: RunningStudy, part: HeldoutPrompts | None, fixed: FixedCandidates | None, asks: bool
    ) -> None:
        self._running = running
        self._part = part
        self._fixed = fixed
        self._asks = asks
        self._statistics: PruningStatistics | None = None
        self._noted = False

    @cached_property
    def _parallelism(self) -> Parallelism:
        return chosen_parallelism(self._running.loaded, vocabulary_size(self._running.baseline))

    def _note_run(self, measurer: Measurer) -> None:
        """Records the parallelism at the first search: the order in which trials are requested depends on it."""
        if not self._noted:
            chosen = self._parallelism
            used = {"n_workers": chosen.processes, "candidates_per_forward": chosen.candidates}
            used["open_candidates"] = measurer.ahead
            kept = values_as_json(self._running.loaded.settings, METRIC_SETTINGS)
            self._running.study.note_run(run_record(kept | used))
        self._noted = True

    @cached_property
    def _paths(self) -> LearnedPaths | None:
        """The points of a method that learns its candidates; None where a sampler draws them, or they are fixed."""
        loaded = self._running.loaded
        learns = not find_method(loaded.settings.method).parameters.sampled
        if not learns or self._fixed is not None:
            return None
        engine, device = loaded.engine, loaded.engine.loaded.device
        if not can_fork(device):
            return LearnedPaths(loaded)
        processes = ForkedTasks(self._parallelism.processes, self._running.reporter.warn)
        answers = ForkedAnswers(engine, processes)
        if not can_fork_steps(device):
            return LearnedPaths(loaded, answers=answers)
        return LearnedPaths(loaded, runner=partial(ForkedStepRunner, processes=processes), answers=answers)

    def first(self) -> bool:
        """The search that the settings ask for."""
        settings = self._running.loaded.settings
        return self.run(settings.n_trials if self._fixed else wanted_candidates(settings.method, settings.n_trials))

    def _learned_points(self, measurer: Measurer) -> LearnedPoints | None:
        if self._paths is None:
            return None
        # Other processes measure points while the next is learned, and then those with other strengths all at once;
        # this one measures as many as share a forward.
        ahead = max(2, self._parallelism.processes) if isinstance(measurer, ProcessPool) else measurer.ahead
        return LearnedPoints(self._running.study, self._paths, ahead)

    def run(self, n_trials: int) -> bool:
        """Searches until the study has `n_trials`; returns False after Ctrl+C."""
        try:
            if self._paths is not None and self._running.study.n_finished() < n_trials:
                self._paths.prepare()
        except KeyboardInterrupt:
            return False
        running, parallelism = self._running, self._parallelism
        # Fixed candidates are in the queue already.
        first = [] if self._fixed else first_candidates(running.study.space, running.loaded.settings)
        missing = [each for each in first if not running.study.holds(each)]
        with open_measurer(running, parallelism) as measurer:
            self._note_run(measurer)
            learned = self._learned_points(measurer)
            search = Search(running, measurer, missing, self._statistics, self._heldout_cost(), learned)
            with kept_speed(running):
                finished = search.run(n_trials)
        self._statistics = search.statistics
        running.study.copy_here()
        return finished

    def evaluate_front(self) -> None:
        """Held-out evaluation of the trials that `heldout_trials` chooses."""
        running, part = self._running, self._part
        if part is None:
            return
        trials, baseline = running.study.trials, running.study.record.baseline
        evaluation = HeldoutEvaluation(running.loaded, part, len(trials))
        front = pareto_front(trials, baseline)
        selected = self._selected(front, baseline)
        if self._fixed is not None:
            chosen = numbered(trials, self._fixed.measured)
        elif self._only_selected and selected is not None:
            known = evaluation.measured()
            chosen = [trial for trial in front if trial == selected or trial.number in known]
            if len(chosen) < len(front):
                running.reporter.say(
                    f"Trial {selected.number}, which is selected, is measured on held-out prompts; with heldout_trials "
                    "others of the front are too."
                )
        else:
            chosen = spread(front, baseline, running.loaded.settings.heldout_trials, selected)
        if chosen:
            missing = {trial.number for trial in chosen} - evaluation.measured()
            measurer = self._heldout_measurer(part) if missing else SharedForwards()
            show_heldout(evaluation.run(chosen, measurer, selected), baseline, running.reporter)

    def _heldout_measurer(self, part: HeldoutPrompts) -> HeldoutMeasurer:
        vocab = vocabulary_size(self._running.baseline)
        return open_heldout(self._running.loaded, part, self._parallelism, vocab)

    @property
    def _only_selected(self) -> bool:
        """Whether a flag selects the trial to be exported, and nothing asks for the metrics of others."""
        settings = self._running.loaded.settings
        return not self._asks and settings.trial is not None and "heldout_trials" not in settings.model_fields_set

    def _selected(self, front: Sequence[TrialRecord], baseline: BaselineRecord) -> TrialRecord | None:
        """The trial that will be exported without asking the user; None where the user is asked, or there is none."""
        if self._asks or self._fixed is not None or not front:
            return None
        wanted = self._running.loaded.settings.trial
        try:
            return select(front, baseline, "knee" if wanted is None else wanted)
        except StudyError:
            # The export reports the reason.
            return None

    def _heldout_cost(self) -> HeldoutCost:
        part, settings, evaluator = self._part, self._running.loaded.settings, self._running.evaluator
        if part is None:
            return HeldoutCost()
        # A trial's good prompts are only prefilled, which costs little compared with the responses to the others.
        generated = max(1, evaluator.rows - len(self._running.loaded.session.prompts.good_evaluation))
        longer = response_length(self._running.loaded.session) / settings.max_response_length
        most = 1 if self._only_selected else settings.heldout_trials
        return HeldoutCost(part.rows * longer * evaluator.rows / generated, most, self._parallelism.candidates)
