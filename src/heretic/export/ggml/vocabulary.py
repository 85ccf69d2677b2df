"""A tokenizer as the keys of a GGUF file."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
from gguf import TokenType

from ...errors import ExportError

ELSEWHERE = (
    "write the merged model (--export merge), and convert it with llama.cpp's convert_hf_to_gguf.py, which knows more "
    "tokenizers"
)
DIGITS_ALONE = "smollm"
GPT2 = "gpt-2"
NAMES = ("llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o")
"""llama.cpp's names of ways to split a text before merging, of which transformers has the patterns."""


class Vocabulary:
    """The vocabulary of a fast tokenizer: byte-level BPE, or BPE with SentencePiece's alphabet.

    Raises:
        ExportError: the tokenizer is of another kind, or splits texts in a way that llama.cpp has no name for.
    """

    def __init__(self, tokenizer: Any, size: int) -> None:
        self._size = size
        # What it does decides, since templates of special tokens in tokenizer.json have many forms.
        ids = tokenizer("a").input_ids
        self._begins = tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
        self._ends = tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id
        with tempfile.TemporaryDirectory() as directory:
            tokenizer.save_pretrained(directory)
            path = Path(directory, "tokenizer.json")
            content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            self._model: Mapping[str, Any] = content.get("model") or {}
            if self._model.get("type") != "BPE":
                kind = self._model.get("type")
                raise ExportError(f"A tokenizer of kind {kind} can't be converted to GGUF: {ELSEWHERE}")
            self._pieces = bool(self._model.get("byte_fallback"))
            self._special = gguf.SpecialVocab(directory, load_merges=not self._pieces, n_vocab=size)
        self._added: Mapping[int, Mapping[str, Any]] = {each["id"]: each for each in content.get("added_tokens", [])}
        self._content = content
        self._split = "" if self._pieces else split_name(content.get("pre_tokenizer"))

    def add_keys(self, writer: gguf.GGUFWriter) -> None:
        """Writes the keys: tokens with their types, merges or scores, special tokens, the chat template."""
        tokens = {number: token for token, number in self._model["vocab"].items()}
        tokens |= {number: each["content"] for number, each in self._added.items()}
        # Embeddings are often longer than the vocabulary.
        texts = [tokens.get(number, f"[PAD{number}]") for number in range(self._size)]
        writer.add_tokenizer_model("llama" if self._pieces else "gpt2")
        writer.add_tokenizer_pre("default" if self._pieces else self._split)
        writer.add_token_list(texts)
        if self._pieces:
            writer.add_token_scores(self._scores(texts))
            writer.add_add_space_prefix(_adds_space(self._content))
        writer.add_token_types([self._type(number, text, number in tokens) for number, text in enumerate(texts)])
        self._special.add_special_token |= {"bos": self._begins, "eos": self._ends}
        self._special.add_to_gguf(writer, quiet=True)

    def _scores(self, texts: list[str]) -> list[float]:
        """SentencePiece merges by score: the earlier a merge was learned, the higher."""
        ranks: dict[str, int] = {}
        for rank, pair in enumerate(self._model["merges"]):
            parts = pair.split(" ") if isinstance(pair, str) else pair
            ranks.setdefault("".join(parts), rank)
        last = float(len(ranks))
        return [-float(ranks.get(text, last)) for text in texts]

    def _type(self, number: int, text: str, known: bool) -> TokenType:
        if not known:
            return TokenType.UNUSED
        if self._pieces and text == self._model.get("unk_token"):
            return TokenType.UNKNOWN
        if number in self._added:
            return TokenType.CONTROL if self._added[number].get("special") else TokenType.USER_DEFINED
        if self._pieces and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return TokenType.BYTE
        return TokenType.NORMAL


def split_name(pre_tokenizer: Mapping[str, Any] | None) -> str:
    """llama.cpp's name for how a byte-level tokenizer splits a text, from its pre_tokenizer in tokenizer.json.

    Raises:
        ExportError: there is none.
    """
    steps = (pre_tokenizer or {}).get("pretokenizers") or [pre_tokenizer or {}]
    kinds = [str(each.get("type")) for each in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return GPT2
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True):
        return DIGITS_ALONE
    pattern = (steps[0].get("pattern") or {}).get("Regex") if kinds == ["Split", "ByteLevel"] else None
    for name in NAMES:
        if pattern is not None and pattern == _patterns().get(name):
            return name
    raise ExportError(f"llama.cpp has no name that is known here for how this tokenizer splits a text: {ELSEWHERE}")


def _patterns() -> Mapping[str, str]:
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:
        # Older releases have no such table.
        return {}
    return dict(GGUF_PRE_TOKENIZER_SPLITS)


def _adds_space(content: Mapping[str, Any]) -> bool:
    """Whether a text gets a space in front."""
    normalizer = content.get("normalizer") or {}
    steps = normalizer.get("normalizers") or [normalizer]
    if any(each.get("type") == "Prepend" for each in steps):
        return True
    return (content.get("pre_tokenizer") or {}).get("prepend_scheme", "never") != "never"
