"""Checks of a search's requirements, before a model is fetched or loaded."""

from pathlib import Path

from ..config import ExportSettings, Settings
from ..errors import ConfigError
from ..export.directory import check_output
from ..export.formats.registry import FORMATS
from ..session.expected_method import recorded_method
from ..session.learning import wanted_candidates
from ..study.find import find_study
from ..ui.flags import default_output
from .upload import check_upload


def check_target(model: str | None, export: ExportSettings) -> str:
    """The model that is named, after checks of the export's target that need no files of the model.

    Raises:
        ConfigError: no model is named, or no importance matrix is where one is named.
        ExportError: the output exists, the upload is impossible, or this machine can't write a format's options.
    """
    if model is None:
        raise ConfigError("Expected a model, got none. Name a directory, a .gguf file or a hub id: heretic MODEL.")
    if export.imatrix is not None and not export.imatrix.is_file():
        raise ConfigError(f"Expected an importance matrix at {export.imatrix} (--imatrix), but there is no such file.")
    for form in FORMATS:
        form.check_options(export)
    if export.wanted is not None:
        check_output(export.output or Path(default_output(model)))
    if export.upload is not None:
        check_upload(export.upload)
    return model


def check_search(settings: Settings, path: Path) -> None:
    """Checks what a search needs besides its model.

    Raises:
        StudyError: there is no study to start from.
        ConfigError: the search can't begin with that study, or can't have the trial that is to be exported.
    """
    if settings.warm_start is not None:
        begun = recorded_method(find_study(settings.warm_start, settings.study_checkpoint_dir).record)
        if begun == "learned":
            raise ConfigError(
                f"Expected a study whose trials a sampler drew for warm_start, but the edits of {settings.warm_start} "
                "were learned. Leave warm_start out, or name a study of the method kernel."
            )
    if not path.exists():
        check_trial(settings)


def check_trial(settings: Settings) -> None:
    """Checks that a new study will have the trial that is to be exported.

    Raises:
        ConfigError: it won't.
    """
    trial, wanted = settings.trial, wanted_candidates(settings.method, settings.n_trials)
    if isinstance(trial, int) and trial >= wanted:
        raise ConfigError(
            f"Expected one of {wanted} trials, 0 to {wanted - 1}, got --trial {trial}. Give a "
            "smaller number, more trials (--n-trials), or a rule such as knee."
        )
