"""The method of a run: learned edits where the model allows them, else the kernel method."""

from dataclasses import replace

from ..config.changes import changed
from ..engine.batch_size import whole_responses
from ..engine.learning.path import LearningSettings
from ..engine.learning.rows import Row
from ..engine.learning.runners import fault_of_gradients
from ..engine.local import LocalEngine
from ..evaluation.behaviour import behaviour_of
from ..model.placement import META
from ..study.schema import StudyRecord
from .context import Session
from .expected_method import kernel_reason, recorded_method
from .learning import first_edited

ROWS, ANSWER = 4, 4
"""Prompts whose last tokens serve as answers: enough for a slope far above rounding, at the cost of a few forwards."""
ASKED, FEWEST_DECLINED = 64, 8
"""Bad direction prompts that the baseline answers before a run, and how many it must decline for edits to be learned by
default: fewer refusals teach too little."""


def keep_method(session: Session, record: StudyRecord | None) -> Session:
    """The session with the method of its study in place of `auto`, if the study was begun before."""
    if record is None or session.settings.method != "auto":
        return session
    return _with_method(session, recorded_method(record), record.no_gradient)


def settle_method(session: Session, engine: LocalEngine, record: StudyRecord | None) -> Session:
    """The session with a method that its model allows: `kernel` in place of `learned` where the model's gradients are
    missing or wrong, and `learned` or `kernel` in place of `auto`.

    A message says which and why.
    """
    wanted = session.settings.method
    if wanted not in ("auto", "learned"):
        return session
    unfit = _unfit(session, engine) if wanted == "auto" else None
    if unfit is not None:
        session.reporter.say(f"Method: kernel, since {unfit}.")
        return _with_method(session, "kernel")
    reason = _fault(session, engine) if record is None else record.no_gradient
    if reason is None:
        return _with_method(session, "learned")
    session.reporter.warn(f"No edits can be learned of this model, since {reason}: the method kernel searches instead.")
    return _with_method(session, "kernel", reason)


def _with_method(session: Session, method: str, no_gradient: str | None = None) -> Session:
    return replace(session, settings=changed(session.settings, {"method": method}), no_gradient=no_gradient)


def _unfit(session: Session, engine: LocalEngine) -> str | None:
    """Why edits are not learned unless the user asks for them, or None."""
    settings = session.settings
    reason = kernel_reason(settings)
    if reason is not None:
        return reason
    if settings.gpus_per_model > 1 and engine.loaded.device == META:
        return "each copy of the model takes several GPUs, on which edits are only learned if you ask for it"
    prompts = session.prompts.bad.prompts[:ASKED]
    with session.reporter.step("The model's own answers to some bad prompts", len(prompts)) as progress:
        [answers] = whole_responses(engine, prompts, [{}], LearningSettings().answer_tokens, progress)
    shown = behaviour_of(settings.refusal_markers, settings.refusal_openings)
    declined = sum(shown(each.text) for each in answers)
    if declined < min(FEWEST_DECLINED, len(prompts)):
        return f"the model declines {declined} of {len(prompts)} bad direction prompts: too few to learn edits from"
    return None


def _fault(session: Session, engine: LocalEngine) -> str | None:
    tokens = [engine.chat.tokens(prompt) for prompt in session.prompts.bad.prompts[:ROWS]]
    rows = [Row(tuple(each[:-ANSWER]), tuple(each[-ANSWER:])) for each in tokens if len(each) > ANSWER]
    return fault_of_gradients(engine, first_edited(engine), rows)
