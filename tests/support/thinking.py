"""Planted models that think before they answer: another thought where the prompt is bad."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from tokenizers import decoders
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from . import planted

ROLES = "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' ' }}{% endfor %}"


@dataclass(frozen=True)
class Thinker:
    """The markers that open and close a model's thoughts, and the text that its template puts after a conversation."""

    opener: str
    closer: str
    asking: str = "<assistant>"
    special: bool = False

    @property
    def template(self) -> str:
        return ROLES + "{% if add_generation_prompt %}{{ '" + self.asking + "' }}{% endif %}"


THINKERS = {
    "opened by the model": Thinker("<think>", "</think>"),
    "opened by the template": Thinker("<think>", "</think>", "<assistant><think>"),
    "an unknown word": Thinker("<zorp>", "</zorp>"),
    "an unknown special token": Thinker("[ZORP]", "[/ZORP]", special=True),
    "a new word of the template": Thinker("<my_thoughts>", "<answer>", "<assistant><my_thoughts>"),
    "an unknown word of the template": Thinker("<zorp>", "</zorp>", "<assistant><zorp>"),
    "an unknown special token of the template": Thinker(
        "<|begin_zorp|>", "<|end_zorp|>", "<assistant><|begin_zorp|>", special=True
    ),
}


def thinking_model(thinker: Thinker) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """It writes the opener unless the template does, "hmm" (a good prompt) or "well" (a bad one), the closer, and then
    answers as the planted model does."""
    marks = [thinker.opener, thinker.closer]
    words = [*planted.VOCABULARY, *marks, "hmm", "well"]
    following = {"<assistant>": thinker.opener, thinker.opener: "hmm", "hmm": thinker.closer, "well": thinker.closer}
    following |= {thinker.closer: "sure", "sure": "here", "here": "<end>", "sorry": "cannot", "cannot": "<end>"}
    plant = planted._plant

    def plant_thoughts(model: LlamaForCausalLM) -> None:
        plant(model)
        head = model.lm_head.weight
        head[words.index("well"), words.index(thinker.opener)] = 5.5
        head[words.index("well"), planted.PLANT_AXIS] = 2.5
        head[words.index("sorry"), words.index(thinker.closer)] = 0.5

    with patch.multiple(
        planted,
        VOCABULARY=words,
        NEXT=following,
        ANSWERS_BEHIND=thinker.closer,
        TEMPLATE=thinker.template,
        _plant=plant_thoughts,
    ):
        model, _ = planted.planted_model()
        tokenizer = planted.planted_tokenizer()
    tokenizer.backend_tokenizer.decoder = decoders.Fuse()
    tokenizer.add_tokens(["<assistant>", *([] if thinker.special else marks)])
    tokenizer.add_special_tokens({"additional_special_tokens": marks if thinker.special else []})
    assert len(tokenizer) == len(words)
    return model, tokenizer


def write_thinking(directory: Path, thinker: Thinker) -> Path:
    """Model and tokenizer in `directory`."""
    model, tokenizer = thinking_model(thinker)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def prompts_of(count: int) -> Sequence[str]:
    return [text for bad in (False, True) for text in planted.planted_prompts(count, bad, seed=3)]
