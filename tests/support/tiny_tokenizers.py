"""Tiny tokenizers of the two kinds that GGUF files hold, with a few merges."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>"]
MERGES = [("t", "h"), ("th", "e"), ("i", "n"), ("h", "e"), ("in", "g")]


def byte_level(split: str | None = None) -> PreTrainedTokenizerFast:
    """Byte-level BPE, which splits texts as GPT-2 does or by a pattern."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    # The byte of a space.
    merges = [*MERGES, ("Ġ", "the")]
    tokens += [left + right for left, right in merges]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if split is not None:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(split), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    return _fast(tokenizer)


def with_pieces() -> PreTrainedTokenizerFast:
    """BPE with SentencePiece's alphabet, as Llama 2 and Gemma have it."""
    letters = [chr(ord("a") + number) for number in range(26)]
    merges = [*MERGES, ("▁", "the")]
    tokens = [*SPECIAL, *(f"<0x{number:02X}>" for number in range(256)), "▁", *letters]
    tokens += [left + right for left, right in merges]
    model = models.BPE(
        {token: number for number, token in enumerate(tokens)},
        merges,
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _fast(tokenizer)


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
