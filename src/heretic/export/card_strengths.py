"""How strongly a trial edits its weights, for the model card."""

from collections.abc import Sequence

from ..ablation.methods.learned.parameters import LearnedParameters
from ..ablation.parameters import AblationParameters


def strengths(parameters: AblationParameters) -> str:
    """A trial's strengths as Markdown."""
    if isinstance(parameters, LearnedParameters):
        return _learned(parameters)
    kernels = [
        (f"`{name}`", *(f"{value:.4f}" for value in kernel.model_dump().values()))
        for name, kernel in parameters.kernels.items()
    ]
    columns = ("Component", "max_weight", "max_weight_position", "min_weight", "min_weight_distance")
    return f"Strength by layer:\n\n{table(columns, kernels)}"


def _learned(parameters: LearnedParameters) -> str:
    rows = [(f"`{name}`", ", ".join(f"{value:.2f}" for value in each)) for name, each in parameters.strengths.items()]
    return (
        "A direction a layer and a strength a weight were found by gradient through the frozen model: the answers of "
        "the base model stay likely, and its refusals become unlikely. The tensors are in `heretic.tensors`. Mean "
        f"strength at each layer, from layer 0:\n\n{table(('Component', 'Strengths'), rows)}"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    head = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])
