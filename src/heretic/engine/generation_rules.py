"""What a model's generation configuration forbids, forces and penalises, applied to each choice as `generate` does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.generation import logits_process

IDLE = {"min_length": 0, "no_repeat_ngram_size": 0, "repetition_penalty": 1.0}
"""Values with no effect: a key with this value counts as not set."""
APPLIED = (
    *("sequence_bias", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "min_length", "min_new_tokens"),
    *("exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens"),
)
"""Keys of a generation configuration that change a decoder's greedy choices, in the order in which transformers applies
them. Forced first tokens are those of encoder-decoders, and a forced last one falls on the cut of a response."""


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of one row: those of its `prompt`, and of the `response` so far. The last `n_prefix` tokens of the
    prompt are the response prefix, with which the response begins."""

    prompt: Sequence[int]
    response: Sequence[int]
    n_prefix: int = 0


@dataclass(frozen=True)
class GenerationRules:
    """The rules of one model, by key; `ends` are the tokens that end a response."""

    values: Mapping[str, Any]
    ends: Sequence[int]
    _processors: dict[tuple[int, torch.device], Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, model: Any, ends: Sequence[int]) -> "GenerationRules | None":
        """The rules of the model's generation configuration; None if it has none."""
        configured = {key: getattr(model.generation_config, key, None) for key in APPLIED}
        values = {key: value for key, value in configured.items() if value not in (None, [], {}, IDLE.get(key))}
        return cls(values, tuple(ends)) if values else None

    def apply(self, logits: Float[Tensor, "row vocab"], rows: Sequence[Row]) -> Float[Tensor, "row vocab"]:
        """Logits of the next tokens under the rules, fp32. Each row counts alone, without padding."""
        result = logits.float().clone()
        for number, row in enumerate(rows):
            ids = torch.tensor([[*row.prompt, *row.response]], device=logits.device)
            result[number] = self._of(len(row.prompt) - row.n_prefix, logits.device)(ids, result[number : number + 1])[
                0
            ]
        return result

    def _of(self, n_prompt: int, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """transformers' own processors, for a prompt of this length."""
        key = n_prompt, device
        if key not in self._processors:
            made = [
                _made(name, self.values[name], self.ends, n_prompt, device) for name in APPLIED if name in self.values
            ]
            self._processors[key] = logits_process.LogitsProcessorList(made)
        found: Callable[[Tensor, Tensor], Tensor] = self._processors[key]
        return found


def _made(name: str, value: Any, ends: Sequence[int], n_prompt: int, device: torch.device) -> Any:
    """The processor of one rule."""
    eos = torch.tensor(list(ends), device=device)
    where: Any = str(device)
    match name:
        case "sequence_bias":
            return logits_process.SequenceBiasLogitsProcessor(value)
        case "repetition_penalty":
            return logits_process.RepetitionPenaltyLogitsProcessor(float(value))
        case "no_repeat_ngram_size":
            return logits_process.NoRepeatNGramLogitsProcessor(value)
        case "bad_words_ids":
            return logits_process.NoBadWordsLogitsProcessor(value, eos)
        case "min_length":
            return logits_process.MinLengthLogitsProcessor(value, eos, where)
        case "min_new_tokens":
            return logits_process.MinNewTokensLengthLogitsProcessor(n_prompt, value, eos, where)
        case "exponential_decay_length_penalty":
            return logits_process.ExponentialDecayLengthPenalty(tuple(value), eos, n_prompt)
        case "suppress_tokens":
            return logits_process.SuppressTokensLogitsProcessor(value, where)
        case _:
            return logits_process.SuppressTokensAtBeginLogitsProcessor(value, n_prompt, where)
