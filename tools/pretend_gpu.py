"""Finds tensors on the wrong device without a GPU: `python tools/pretend_gpu.py [FAMILY ...]`.

torch's fake tensors have shapes and a device, but no numbers; an operation on two devices raises. Here the weights of
a tiny model claim to be on a GPU, or half of them on a second one, and the engine runs all stages of a search on it.
Where the program reads numbers, it gets placeholders, and a captured step runs once. This can't test CUDA itself:
graphs, streams, events. Needs a C++ compiler and ninja: a build of torch without CUDA can't index a tensor on a fake
GPU without a device guard, so the tool compiles one that does nothing.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from tiny_models import tiny_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.cpp_extension import load_inline

from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.engine.divergence import kl_divergence
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import no_progress
from heretic.model.chat.format import chat_format
from heretic.model.layers import decoder_layers
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from heretic.prompts.prompt import Prompt

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.planted import planted_prompts, planted_tokenizer

FAMILIES = ["llama", "gemma2", "gpt2", "opt", "falcon", "phi3", "qwen3"]
PROMPTS = [Prompt(text) for text in planted_prompts(11, bad=True, seed=5)]
TOKEN = 2
"""The placeholder for every number: valid as a token and as the number of a candidate."""

GUARD = """
#include <torch/extension.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
static c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> nothing;
void guard() { static c10::impl::DeviceGuardImplRegistrar registered(c10::DeviceType::CUDA, &nothing); }
"""


class Graph:
    def replay(self) -> None: ...


class Capturer:
    def capture(self, step: Callable[[], None], rewind: Callable[[], None], shares_memory_with: Any) -> Graph:
        step()
        rewind()
        return Graph()


class Tokens:
    def __init__(self, tokens: torch.Tensor) -> None:
        assert tokens.device.type == "cuda"
        self._shape = tokens.shape

    def tokens(self) -> Any:
        return made_up(self._shape)


def made_up(shape: Any) -> Any:
    return [made_up(shape[1:]) for _ in range(shape[0])] if len(shape) else TOKEN


@contextmanager
def pretending() -> Iterator[FakeTensorMode]:
    """Within it new tensors are fake, and reading their numbers gives placeholders."""
    replaced = [
        patch("heretic.engine.cuda_graphs.static_batch.AsyncTokens", Tokens),
        patch("heretic.engine.cuda_graphs.decoder.AsyncTokens", Tokens),
        patch("torch.cuda.mem_get_info", lambda *_: (8 << 30, 8 << 30)),
        # No fake tensor has numbers.
        patch("torch._subclasses.fake_tensor.CONSTANT_NUMEL_LIMIT", -1),
        patch.object(FakeTensor, "tolist", lambda self: made_up(self.shape), create=True),
        patch.object(FakeTensor, "__bool__", lambda _: True, create=True),
        patch.object(FakeTensor, "__float__", lambda _: 0.0, create=True),
        patch.object(FakeTensor, "__int__", lambda _: 0, create=True),
    ]
    with ExitStack() as stack:
        for each in replaced:
            stack.enter_context(each)
        stack.enter_context(torch.inference_mode())
        yield stack.enter_context(FakeTensorMode())


def to_pretended(model: nn.Module, device: str = "cuda") -> None:
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is not None:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
                    store[name] = nn.Parameter(fake, requires_grad=False) if store is module._parameters else fake


def spread(model: Any) -> None:
    """The upper half of the layers and all that follows on a second GPU, with the hooks by which accelerate moves
    inputs there."""
    _, layers = decoder_layers(model)
    following = [each for each in model.base_model.children() if type(each).__name__.endswith("Norm")]
    for module in (*layers[len(layers) // 2 :], *following, model.get_output_embeddings()):
        to_pretended(module, "cuda:1")
        # The cache keeps each layer's keys where the layer is.
        add_hook_to_module(module, AlignDevicesHook("cuda:1", skip_keys=model._skip_keys_device_placement))
    # Logits come back to the device that the tokens are on.
    add_hook_to_module(model, AlignDevicesHook(io_same_device=True))


def fail(text: str) -> None:
    raise SystemExit(text)


def search(loaded: LoadedModel, two_devices: bool = False) -> None:
    """The work of a search, with edits that are on the CPU as a search has them."""
    to_pretended(loaded.model, "cuda:0" if two_devices else "cuda")
    if two_devices:
        spread(loaded.model)
    assert loaded.device.type == "cuda"
    engine = LocalEngine(loaded, chat_format(loaded.tokenizer, None, "tiny"), 64, warn=fail, capturer=Capturer())
    edits: list[ModelEdit] = [
        {site.module: SiteEdit(torch.zeros(32, 1), torch.zeros(32, 1), scale) for site in engine.sites}
        for scale in (torch.ones(32), None)
    ]
    edits.append({})
    first = engine.first_token_log_probabilities(PROMPTS, edits, no_progress)
    assert kl_divergence(first[2], first[0]).device.type == "cuda"
    list(engine.residuals(PROMPTS, no_progress))
    list(engine.answer_log_probabilities(PROMPTS, [(5, 6, 7)] * len(PROMPTS), edits, no_progress))
    verdicts = cycle([True, False, False])
    for length in (12, 9):
        engine.generate(PROMPTS, list(edits), length, lambda _: next(verdicts), no_progress)
    assert engine.graphs is not None and engine.graphs.has_graphs != two_devices
    engine.decoding_rate(PROMPTS, len(edits), 10)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        load_inline("pretended_guard", GUARD, functions=["guard"], build_directory=directory).guard()
    for family in sys.argv[1:] or FAMILIES:
        for two_devices in (False, True):
            model, tokenizer = tiny_model(family), planted_tokenizer()
            loaded = LoadedModel(Checkpoint("tiny", Path()), model, tokenizer, tuple(find_sites(model)))
            with pretending():
                search(loaded, two_devices)
            print(f"{family}, {'two GPUs' if two_devices else 'one GPU'}: nothing is on the wrong device", flush=True)


if __name__ == "__main__":
    main()
