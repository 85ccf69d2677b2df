"""Whether code that comes with a model may run: the settings say so, or a person, or it may not."""

from ..config import Settings
from ..config.changes import changed
from ..errors import ModelError
from ..events import Reporter
from ..model.loading.checkpoint import Checkpoint
from ..model.loading.remote_code import needed_code


def settle_trust(settings: Settings, checkpoint: Checkpoint, reporter: Reporter) -> Settings:
    """The settings with `trust_remote_code` answered.

    Raises:
        ModelError: the model needs code of its own, and nobody has said that it may run.
    """
    if settings.trust_remote_code:
        return settings
    code = needed_code(checkpoint)
    if code is None:
        return settings
    lines = code.described()
    if settings.trust_remote_code is None:
        question = f"{checkpoint.name} can't be loaded without code of its own, which may do anything that you may:"
        if reporter.confirm(question, lines, "Run it?"):
            return changed(settings, {"trust_remote_code": True})
    raise ModelError(
        f"{checkpoint.name} needs code of its own that transformers does not have ({', '.join(code.classes)}), and it "
        f"was not allowed to run: {'; '.join(lines)}. Read it, then give --trust-remote-code, or use a model that "
        "transformers knows."
    )
