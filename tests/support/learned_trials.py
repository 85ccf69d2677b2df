"""Parameters of learned trials, without a model."""

from typing import Any

from heretic.ablation.methods.learned.parameters import LearnedParameters


def learned_parameters(**more: Any) -> LearnedParameters:
    fields: dict[str, Any] = {
        "tensors": "abc",
        "path": 0,
        "point": 1,
        "refusal_weight": 3.0,
        "losses": (2.0, 1.0),
        "strengths": {"attn.o_proj": (0.0, 0.5)},
        "cosines": (0.0, 0.9),
    }
    return LearnedParameters(**fields | more)
