"""GGUF files of a tiny Llama, written as llama.cpp would write them."""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from heretic.export.ggml.blocks import quantize
from tests.support.families import tiny

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
QUANTISED = {"attn_q": Type.Q4_1, "attn_k": Type.Q8_0, "ffn_down": Type.Q4_0, "token_embd": Type.Q8_0}


def write_gguf(
    path: Path,
    matrices: dict[str, Type],
    others: Type = Type.F32,
    tied: bool = True,
    feed_forward: int = 64,
    parts: int = 1,
) -> None:
    """A llama of the tests' usual size as llama.cpp would store it, in one file or several; `matrices` types by part of
    the name."""
    model = tiny("llama", tie_word_embeddings=tied, intermediate_size=feed_forward)
    # 30 tensors.
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=0 if parts == 1 else -(-30 // parts))
    add_metadata(writer, feed_forward)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 3)
    for key, tensor in model.state_dict().items():
        if tied and key == "lm_head.weight":
            continue
        name = names.get_name(key, try_suffixes=(".weight",))
        assert name is not None
        usual = others if tensor.dim() == 2 else Type.F32
        kind = next((kind for part, kind in matrices.items() if part in name), usual)
        writer.add_tensor(name, quantize(tensor.float().numpy(), kind), raw_dtype=kind)
    # llama.cpp stores it for some models; transformers computes it.
    writer.add_tensor("rope_freqs.weight", np.ones(4, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_metadata(writer: gguf.GGUFWriter, feed_forward: int) -> None:
    writer.add_name("tiny")
    writer.add_block_count(3)
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(96)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*(chr(33 + n) for n in range(93)), '!"', "<s>", "</s>"])
    writer.add_token_types([1] * 94 + [3, 3])
    writer.add_token_merges(['! "'])
    writer.add_bos_token_id(94)
    writer.add_eos_token_id(95)
    writer.add_chat_template(TEMPLATE)
