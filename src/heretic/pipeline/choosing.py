"""Talking to the candidates of a running study, as its menu offers it."""

from ..config import EvaluationSettings
from ..engine.local import LocalEngine
from ..ui.events import Action
from .measuring import Compile


def talk_to(action: Action, compiled: Compile, engine: LocalEngine, settings: EvaluationSettings) -> None:
    """A chat with the chosen trial, or a comparison of it with the model itself and others."""
    import sys

    from ..ui.compare import Sides
    from .chatting import chat_with
    from .comparing import Comparison, run_comparison

    assert action.trial is not None
    if action.kind == "chat":
        chat_with(action.trial, compiled(action.trial.parameters), engine, settings)
        return
    trials = [action.trial, *action.others]
    edits = [{}, *(compiled(trial.parameters) for trial in trials)]
    run_comparison(Comparison(engine, edits, settings.max_response_length), trials, [], Sides(sys.stdout))
