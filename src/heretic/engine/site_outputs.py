"""The outputs of each site at the last tokens of prompts and the first tokens of given answers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, singledispatch
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..ablation.methods.measurements import N_ANSWER, N_PROMPT, capture_point
from ..model.layers import hidden, hooks
from ..model.placement import bias_of
from ..prompts.prompt import Prompt
from .local import LocalEngine


# An engine whose model is in other processes has its own implementation.
@singledispatch
@torch.inference_mode()
def site_outputs(
    engine: LocalEngine, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]
) -> Iterator[tuple[list[int], Mapping[str, Float[Tensor, "prompt position d_model"]]]]:
    """(indices of prompts, outputs by the name of `capture_point`) batch by batch, in the model's dtype on its device.

    Positions are the last `N_PROMPT` of the prompt and the first `N_ANSWER` of the answer; those that a row lacks are
    NaN. Experts of a mixture are captured as the output of their block. Only outputs are read, so that packed weights
    serve as well as plain ones.
    """
    model, device, pad = engine.loaded.model, engine.loaded.device, engine.chat.tokenizer.pad_token_id
    modules = {name: model.get_submodule(name) for name in dict.fromkeys(map(capture_point, engine.sites))}
    biases = {name: bias_of(module) for name, module in modules.items()}
    tokens = [engine.chat.tokens(prompt) for prompt in prompts]
    texts = [[*prompt, *answer[:N_ANSWER]] for prompt, answer in zip(tokens, answers, strict=True)]
    for batch in engine.prefill.split(texts, engine.batch_size):
        rows = [texts[index] for index in batch]
        longest = max(map(len, rows))
        ids = [[pad] * (longest - len(row)) + row for row in rows]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        with _captured(modules) as seen:
            engine.forward.last_logits(torch.tensor(ids, device=device), torch.tensor(mask, device=device), 1)
        places = torch.tensor([_places(longest, len(texts[index]), len(tokens[index])) for index in batch])
        yield batch, {name: _at(output, places, longest, biases[name]) for name, output in seen.items()}


@contextmanager
def _captured(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """A dict that a forward fills with the modules' outputs, by name."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, _: nn.Module, __: Any, output: Any) -> None:
        seen[name] = hidden(output)

    with hooks(*(partial(module.register_forward_hook, partial(keep, name)) for name, module in modules.items())):
        yield seen


def _places(longest: int, length: int, prompt: int) -> list[int]:
    """The captured positions of a row of `length` tokens at the end of `longest`; -1 for those that it lacks."""
    begin = longest - length
    wanted = range(prompt - N_PROMPT, prompt + N_ANSWER)
    return [begin + position if 0 <= position < length else -1 for position in wanted]


def _at(
    output: Tensor, places: Int[Tensor, "row place"], longest: int, bias: Tensor | None
) -> Float[Tensor, "row place d_model"]:
    # Some families flatten rows and positions before the module.
    rows = output.reshape(len(places), longest, output.shape[-1])
    places = places.to(output.device)
    taken = rows.gather(1, places.clamp_min(0)[:, :, None].expand(-1, -1, output.shape[-1]))
    if bias is not None:
        # An edit of the weight leaves the bias as it is.
        taken = taken - bias
    return taken.masked_fill((places < 0)[:, :, None], torch.nan)
