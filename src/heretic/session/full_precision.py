"""What exports of a quantised model are made from: the model it was made from, or its own weights, dequantised."""

from ..config import Settings
from ..config.changes import changed
from ..errors import ExportError
from ..events import Reporter
from ..export.readers.base import CheckpointReader, open_checkpoint
from ..export.readers.dequantized import DequantizedReader
from ..model.loading.checkpoint import Checkpoint, find_checkpoint
from ..model.loading.load import load_decoder
from ..model.loading.quantization import stored_quantization

DEQUANTIZE = "dequantize"
HELP = (
    "Give the model that it was made from (--full-precision-model PATH or hub id), or --full-precision-model "
    "dequantize to have its own weights dequantised, edited and written in bfloat16, with what the quantisation lost"
)


def full_precision_of(settings: Settings, checkpoint: Checkpoint) -> Checkpoint | None:
    """The checkpoint that holds the model's weights in full precision, as far as it is known."""
    if stored_quantization(checkpoint) is None:
        return checkpoint
    if settings.full_precision_model in (None, DEQUANTIZE):
        return None
    found = find_checkpoint(settings.full_precision_model)
    if stored_quantization(found) is not None:
        raise ExportError(f"Expected a model of full precision, but {found.name} is quantised too. {HELP}.")
    return found


def check_full_precision(settings: Settings, checkpoint: Checkpoint) -> None:
    """Before a search whose export is wanted already: it is known what it is made from.

    Raises:
        ExportError: the model is quantised, and nothing else is given.
    """
    wanted = settings.export != "none" if settings.export is not None else settings.output is not None
    if full_precision_of(settings, checkpoint) is None and wanted and settings.full_precision_model is None:
        raise ExportError(f"{checkpoint.name} is quantised ({stored_quantization(checkpoint)}). {HELP}.")


def export_reader(settings: Settings, checkpoint: Checkpoint, reporter: Reporter) -> CheckpointReader:
    """What an export of the model reads from; a person is asked where it is not settled.

    Raises:
        ExportError: it can't be settled.
    """
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
