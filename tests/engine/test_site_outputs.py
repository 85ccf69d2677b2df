"""What is captured of a site is what it writes at the same tokens when each prompt runs alone."""

import pytest
import torch
from torch.testing import assert_close

from heretic.ablation.methods.measurements import N_ANSWER, N_PROMPT, capture_point
from heretic.engine.local import LocalEngine
from heretic.engine.site_outputs import site_outputs
from heretic.model.layers import hidden, hooks
from tests.support.engines import PROMPTS, any_engine, engine_for

ANSWERS = [[5, 6, 7, 8, 9], [5, 6, 7, 8], [6], [], [7, 8]]


def alone(engine: LocalEngine, number: int, name: str) -> torch.Tensor:
    """The module's output at the captured positions of one prompt, with NaN for those it lacks."""
    prompt = engine.chat.tokens(PROMPTS[number])
    answer = ANSWERS[number][:N_ANSWER]
    seen: list[torch.Tensor] = []
    module = engine.loaded.model.get_submodule(name)
    with (
        torch.inference_mode(),
        hooks(lambda: module.register_forward_hook(lambda _, __, output: seen.append(hidden(output)))),
    ):
        engine.loaded.model(input_ids=torch.tensor([[*prompt, *answer]]))
    written = seen[0].reshape(len(prompt) + len(answer), -1)[len(prompt) - N_PROMPT :]
    missing = torch.full((N_ANSWER - len(answer), written.shape[-1]), torch.nan)
    bias = getattr(module, "bias", None)
    return torch.cat([written if bias is None else written - bias, missing])


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "opt"])
def test_a_batch_gives_what_single_rows_write(family: str, batch_size: int) -> None:
    engine = engine_for(family, batch_size)
    found = dict[int, dict[str, torch.Tensor]]()
    for indices, outputs in site_outputs(engine, PROMPTS[: len(ANSWERS)], ANSWERS):
        for row, index in enumerate(indices):
            found[index] = {name: output[row] for name, output in outputs.items()}
    assert sorted(found) == list(range(len(ANSWERS)))
    for site in (engine.sites[0], engine.sites[-1]):
        for number in range(len(ANSWERS)):
            expected = alone(engine, number, site.module)
            assert_close(found[number][site.module], expected, atol=1e-4, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_5_moe_text", "lfm2_moe", "deepseek_v4"])
def test_experts_are_captured_as_their_block(family: str) -> None:
    engine = any_engine(family, 4)
    names = {capture_point(site) for site in engine.sites}
    for _, outputs in site_outputs(engine, PROMPTS[:5], ANSWERS):
        assert set(outputs) == names
        for output in outputs.values():
            assert output.shape[1:] == (N_PROMPT + N_ANSWER, engine.loaded.d_model)
            assert torch.isfinite(output[:, :N_PROMPT]).all()


def test_no_hook_remains() -> None:
    engine = engine_for("llama", 4)
    for _ in site_outputs(engine, PROMPTS[:5], ANSWERS):
        pass
    assert not any(engine.loaded.model.get_submodule(site.module)._forward_hooks for site in engine.sites)
