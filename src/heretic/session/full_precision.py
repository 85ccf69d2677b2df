"""Full-precision weights for exports of a quantised model: its original's, or its own after dequantisation."""

from ..config import ModelSettings
from ..config.changes import changed
from ..errors import ConfigError, ExportError
from ..export.readers.base import CheckpointReader, open_checkpoint
from ..export.readers.dequantized import DequantizedReader
from ..model.loading.checkpoint import Checkpoint, find_checkpoint
from ..model.loading.load import load_decoder
from ..model.loading.quantization import stored_quantization
from .context import ModelSession

DEQUANTIZE = "dequantize"
HELP = (
    "Give the model that it was made from (--full-precision-model PATH or hub id), or --full-precision-model "
    "dequantize to have its own weights dequantised, edited and written in bfloat16, with what the quantisation lost"
)


def full_precision_of(settings: ModelSettings, checkpoint: Checkpoint) -> Checkpoint | None:
    """The checkpoint that holds the model's weights in full precision; None if it is not known.

    Raises:
        ExportError: `full_precision_model` is quantised too.
    """
    if stored_quantization(checkpoint) is None:
        return checkpoint
    if settings.full_precision_model in (None, DEQUANTIZE):
        return None
    found = find_checkpoint(settings.full_precision_model)
    if stored_quantization(found) is not None:
        raise ExportError(f"Expected a model of full precision, but {found.name} is quantised too. {HELP}.")
    return found


def check_original(settings: ModelSettings, checkpoint: Checkpoint) -> None:
    """Raises:
    ConfigError: an original is given for a model that is of full precision itself.
    """
    if settings.full_precision_model is not None and stored_quantization(checkpoint) is None:
        raise ConfigError(
            f"Expected a quantised model for full_precision_model = {settings.full_precision_model}, but the weights "
            f"of {checkpoint.name} are of full precision themselves. Leave full_precision_model out."
        )


def check_full_precision(session: ModelSession) -> None:
    """Checks that an export has weights to start from.

    Raises:
        ExportError: the model is quantised, and `full_precision_model` is not given.
    """
    settings, checkpoint = session.settings, session.checkpoint
    if full_precision_of(settings, checkpoint) is None and settings.full_precision_model is None:
        raise ExportError(f"{checkpoint.name} is quantised ({stored_quantization(checkpoint)}). {HELP}.")


def export_reader(session: ModelSession) -> CheckpointReader:
    """The weights that an export of the model starts from. The user is asked before they are dequantised.

    Raises:
        ExportError: the model is quantised, its original is not given, and the user did not agree.
    """
    settings, checkpoint, reporter = session.settings, session.checkpoint, session.reporter
    source = full_precision_of(settings, checkpoint)
    if source is not None:
        return open_checkpoint(source.directory, source.gguf_file)
    method = stored_quantization(checkpoint)
    if settings.full_precision_model is None and not reporter.confirm(
        f"{checkpoint.name} is quantised ({method}), and the model that it was made from was not given "
        "(--full-precision-model).",
        [],
        "Dequantise its weights, edit them and write them in bfloat16?",
    ):
        raise ExportError(f"{checkpoint.name} is quantised ({method}). {HELP}.")
    reporter.say(
        f"The weights of {checkpoint.name} are dequantised, edited and written in bfloat16: what its quantisation "
        f"({method}) lost is not in them."
    )
    pinned = changed(settings, {"dtypes": ["bfloat16"]})
    with reporter.step(f"Loading {checkpoint.name}"):
        model = load_decoder(checkpoint, pinned, reporter.say)
    return DequantizedReader(model, checkpoint.directory)
