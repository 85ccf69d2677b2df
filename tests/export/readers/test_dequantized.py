"""The weights of a quantised model, read as those of a checkpoint."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from heretic.export.readers.dequantized import DequantizedReader
from heretic.model.loading.quantization import is_packed
from tests.support.tiny_checkpoints import saved


@pytest.mark.filterwarnings("ignore")
def test_packed_weights_are_those_of_the_forward(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    shape = dict(hidden_size=128, intermediate_size=192, num_attention_heads=4, num_key_value_heads=4, head_dim=32)
    original = saved("llama", tmp_path, tie_word_embeddings=True, **shape)
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=nf4, dtype=torch.bfloat16).eval()
    tokens = torch.arange(8)[None]
    with torch.inference_mode():
        # The first forward packs the weights anew, where the CPU has instructions for it.
        before = model(tokens).logits
        reader = DequantizedReader(model, tmp_path)
        assert torch.equal(model(tokens).logits, before)
    found = {info.key: reader.read(info.key) for info in reader.tensors()}
    plain = dict(original.named_parameters())
    assert found.keys() == plain.keys()
    for key, tensor in found.items():
        packed = is_packed(model.get_submodule(key.rpartition(".")[0]))
        error = (tensor.float() - plain[key]).norm() / plain[key].norm()
        assert error < (0.15 if packed else 0.01)
    assert any(isinstance(module, nn.Linear) and is_packed(module) for module in model.modules())
