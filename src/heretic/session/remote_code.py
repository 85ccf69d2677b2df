"""Whether code that comes with a model may run: the settings or the user must allow it."""

from typing import TypeVar

from ..config import ModelSettings
from ..config.changes import changed
from ..errors import ModelError
from ..events import Reporter
from ..model.loading.checkpoint import Checkpoint
from ..model.loading.remote_code import needed_code

S = TypeVar("S", bound=ModelSettings)


def settle_trust(settings: S, checkpoint: Checkpoint, reporter: Reporter) -> S:
    """The settings with `trust_remote_code` answered for this checkpoint.

    The user's answer is for this checkpoint alone: settle every model from the user's own settings, not from settings
    that were settled for another model.

    Raises:
        ModelError: the model needs code of its own, and the user has not allowed it to run.
    """
    code = needed_code(checkpoint)
    if code is None:
        return settings
    lines = code.described()
    if settings.trust_remote_code:
        reporter.say(f"Code that comes with {checkpoint.name} runs, as allowed: {'; '.join(lines)}.")
        return settings
    if settings.trust_remote_code is None:
        question = f"{checkpoint.name} can't be loaded without code of its own, which may do anything that you may:"
        if reporter.confirm(question, lines, "Run it?"):
            return changed(settings, {"trust_remote_code": True})
    raise ModelError(
        f"{checkpoint.name} needs code of its own that transformers does not have ({', '.join(code.classes)}), and it "
        f"was not allowed to run: {'; '.join(lines)}. Read it, then give --trust-remote-code, or use a model that "
        "transformers knows."
    )
