"""What a run does where a model passes no gradients: the kernel method searches in place of the learned one."""

from dataclasses import replace

from ..ablation.methods.learned.layout import layout_of
from ..config.changes import changed
from ..engine.learning.gradient_fault import gradient_fault
from ..engine.learning.rows import Row
from ..engine.learning.runners import answer_forward
from ..engine.local import LocalEngine
from ..model.placement import META
from ..study.schema import StudyRecord
from .context import Session
from .learning import first_edited

ROWS, ANSWER = 4, 4
"""Prompts whose last tokens serve as answers: enough for a slope far above rounding, at the cost of a few forwards."""


def settle_method(session: Session, engine: LocalEngine, record: StudyRecord | None) -> Session:
    """The session with method `kernel` where its method learns and the model's gradients are missing or wrong.

    A warning says why. A study that has a record keeps the method that it has.
    """
    if session.settings.method != "learned":
        return session
    reason = _fault(session, engine) if record is None else record.no_gradient
    if reason is None:
        return session
    session.reporter.warn(f"No edits can be learned of this model, since {reason}: the method kernel searches instead.")
    return replace(session, settings=changed(session.settings, {"method": "kernel"}), no_gradient=reason)


def _fault(session: Session, engine: LocalEngine) -> str | None:
    if all(each.device == META for each in engine.loaded.model.parameters()):
        # The weights are in other processes, whose first step raises an error where no gradient passes.
        return None
    first = first_edited(engine)
    tokens = [engine.chat.tokens(prompt) for prompt in session.prompts.bad.prompts[:ROWS]]
    rows = [Row(tuple(each[:-ANSWER]), tuple(each[-ANSWER:])) for each in tokens if len(each) > ANSWER]
    forward = answer_forward(engine, first)
    return gradient_fault(forward, layout_of(engine.sites, {}, first), engine.loaded.d_model, rows)
