"""What a choice asks to be written or uploaded, carried out while the study is open."""

from pathlib import Path

from ..ablation.methods.tensors import StudyTensors
from ..config import Settings
from ..errors import ExportError
from ..events import Action, Reporter
from ..export.formats.registry import find_format
from ..session.heldout_sidecar import read_figures
from ..session.save import Verification, save_trial
from ..study.reader import RecordedStudy
from ..study.study import Study
from .upload import check_upload, upload_directory


class Exporter:
    """Writes trials of one study; remembers what it wrote, so that an upload does not write it again."""

    def __init__(
        self, study: Study, tensors: StudyTensors, verification: Verification, settings: Settings, reporter: Reporter
    ) -> None:
        self._study = study
        self._tensors = tensors
        self._verification = verification
        self._settings = settings
        self._reporter = reporter
        self._written: set[tuple[int, str, Path]] = set()

    def run(self, action: Action, may_fail: bool) -> None:
        """Writes and verifies, and uploads if asked to; where it `may_fail`, a warning says why and that is all.

        Raises:
            ExportError: it can't be done.
        """
        try:
            self._carry_out(action)
        except ExportError as error:
            if not may_fail:
                raise
            self._reporter.warn(str(error))
        except KeyboardInterrupt:
            if not may_fail:
                raise
            self._reporter.warn("Stopped: nothing was left half written.")

    def _carry_out(self, action: Action) -> None:
        assert action.trial and action.export and action.output
        if action.repository is not None:
            check_upload(action.repository)
        output = Path(action.output)
        written = (action.trial.number, action.export, output.absolute())
        if action.kind == "save" or written not in self._written or not output.is_dir():
            save_trial(
                action.trial,
                self._study.record,
                self._tensors,
                find_format(action.export),
                output,
                self._settings,
                self._verification,
                self._reporter,
                read_figures(self._study.path),
                RecordedStudy(self._study.path).last_run,
            )
            self._written.add(written)
        if action.repository is not None:
            upload_directory(output, action.repository, action.public, self._reporter)
