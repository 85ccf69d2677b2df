"""A streamed response is that of the engine, with edit and history, whatever part of the cache is reused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.engine.chat_stream import ResponseStream, Turn
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import no_progress
from heretic.engine.sampling import Sampling, choose
from heretic.errors import PromptError
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from heretic.prompts.prompt import Prompt
from tests.support.families import tiny
from tests.support.planted import planted_model, planted_prompts, planted_tokenizer

PROMPTS = planted_prompts(6, bad=True, seed=5)
FAMILIES = ["llama", "gemma2", "gpt2", "opt", "falcon", "bloom"]


def engine_for(family: str, system: str | None = None, prefix: str = "") -> LocalEngine:
    tokenizer = planted_tokenizer()
    model = tiny(family, tie_word_embeddings=False, eos_token_id=1)
    loaded = LoadedModel(Checkpoint("tiny", Path()), model, tokenizer, tuple(find_sites(model)))
    return LocalEngine(loaded, chat_format(tokenizer, system, "tiny").with_prefix(prefix))


def some_edit(engine: LocalEngine) -> dict[str, SiteEdit]:
    vectors = torch.nn.functional.normalize(torch.randn(32, 1, generator=torch.Generator().manual_seed(1)), dim=0)
    return {site.module: SiteEdit(vectors, vectors) for site in engine.sites}


def stream_of(engine: LocalEngine, edit: ModelEdit, seed: int = 0) -> ResponseStream:
    return ResponseStream(engine, edit, torch.Generator().manual_seed(seed))


def text_of(stream: ResponseStream, *turns: str, system: str | None = None, temperature: float = 0.0) -> str:
    roles = [Turn("assistant" if i % 2 else "user", text) for i, text in enumerate(turns)]
    return "".join(stream.generate(roles, system, Sampling(temperature), 12))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefix", ["", " word3"])
def test_the_stream_is_the_response_of_the_engine(family: str, prefix: str) -> None:
    engine = engine_for(family, "word7 word8", prefix)
    texts = {}
    for edit in ({}, some_edit(engine)):
        responses = engine.generate([Prompt(text) for text in PROMPTS], [edit], 12, None, no_progress)[0]
        texts[len(edit)] = [response.text for response in responses]
        assert [text_of(stream_of(engine, edit), text) for text in PROMPTS] == texts[len(edit)]
        assert [text_of(stream_of(engine, edit), text, system="") for text in PROMPTS] != texts[len(edit)]
    assert len(set(map(tuple, texts.values()))) == 2, "the edit shows"
    assert not any(module._forward_hooks for module in engine.loaded.model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_later_turns_see_earlier_ones_and_the_cache_changes_nothing(family: str) -> None:
    engine = engine_for(family)
    edit = some_edit(engine)
    whole = stream_of(engine, edit)
    first = text_of(whole, PROMPTS[0])
    second = text_of(whole, PROMPTS[0], first, PROMPTS[1])
    third = text_of(whole, PROMPTS[0], first, PROMPTS[1], second, PROMPTS[2])
    assert second == text_of(stream_of(engine, edit), PROMPTS[0], first, PROMPTS[1])
    assert third == text_of(stream_of(engine, edit), PROMPTS[0], first, PROMPTS[1], second, PROMPTS[2])
    assert text_of(whole, PROMPTS[2]) == text_of(stream_of(engine, edit), PROMPTS[2]), "another conversation"
    assert third != text_of(stream_of(engine, edit), PROMPTS[2])


def test_the_cache_is_reused() -> None:
    model, _ = planted_model()
    tokenizer = planted_tokenizer()
    loaded = LoadedModel(Checkpoint("planted", Path()), model, tokenizer, tuple(find_sites(model)))
    stream = stream_of(LocalEngine(loaded, chat_format(tokenizer, None, "planted")), {})
    lengths: list[int] = []
    model.register_forward_pre_hook(
        lambda _, __, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    assert text_of(stream, "word1 word2") == "sure here"
    assert text_of(stream, "word1 word2", "sure here", "word1 trigger1") == "sorry cannot"
    # Both times only "<user> ... <assistant>": what stands before it is in the cache.
    assert lengths == [4, 1, 1, 4, 1, 1]
    assert text_of(stream, "word3 " * 20) == "sure here"
    assert lengths[6] == 22, "as long, but another conversation"


def test_an_abandoned_stream_leaves_no_state() -> None:
    engine = engine_for("llama")
    edit = some_edit(engine)
    stream = stream_of(engine, edit)
    pieces = stream.generate([Turn("user", PROMPTS[0])], None, Sampling(), 12)
    begun = next(pieces) + next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert not any(module._forward_hooks for module in engine.loaded.model.modules())
    expected = text_of(stream_of(engine, edit), PROMPTS[0], begun, PROMPTS[1])
    assert text_of(stream, PROMPTS[0], begun, PROMPTS[1]) == expected


def test_temperature_draws_and_its_limit_is_greedy() -> None:
    engine = engine_for("llama")
    drawn = {text_of(stream_of(engine, {}, seed), PROMPTS[0], temperature=1.0) for seed in range(4)}
    assert len(drawn) > 1
    assert text_of(stream_of(engine, {}), PROMPTS[0], temperature=1e-4) == text_of(stream_of(engine, {}), PROMPTS[0])


def test_characters_of_several_tokens_are_shown_whole() -> None:
    engine = engine_for("llama")

    class Bytes:
        """Each token is one byte of a text."""

        def batch_decode(self, rows: list[list[int]], **_: object) -> list[str]:
            return [
                b"".join("né∘x".encode()[i : i + 1] for i in range(len(row))).decode(errors="replace") for row in rows
            ]

        def __getattr__(self, name: str) -> object:
            return getattr(planted_tokenizer(), name)

        def __call__(self, text: str, **rest: object) -> object:
            return planted_tokenizer()(text, **rest)

    spelled = replace(engine.chat, template=replace(engine.chat.template, tokenizer=Bytes()))
    engine = LocalEngine(engine.loaded, spelled)
    pieces = list(ResponseStream(engine, {}, torch.Generator()).generate([Turn("user", "word1")], None, Sampling(), 6))
    assert [piece for piece in pieces if piece] == ["n", "é", "∘"]


def test_a_full_context_is_an_error() -> None:
    with pytest.raises(PromptError, match="shorter than this model's context"):
        text_of(stream_of(engine_for("llama"), {}), "word1 " * 5000)


def drawn(sampling: Sampling, count: int = 400) -> set[int]:
    """The tokens drawn in `count` draws from probabilities 0.5, 0.3, 0.15, 0.05, in another order."""
    logits = torch.tensor([0.05, 0.5, 0.15, 0.3]).log()
    generator = torch.Generator().manual_seed(0)
    return {choose(logits, sampling, generator) for _ in range(count)}


def test_only_tokens_that_sampling_keeps_are_drawn() -> None:
    assert drawn(Sampling()) == {1}
    assert drawn(Sampling(1.0)) == {0, 1, 2, 3}
    assert drawn(Sampling(1.0, top_k=2)) == {1, 3}
    assert drawn(Sampling(1.0, top_p=0.5)) == {1}
    assert drawn(Sampling(1.0, top_p=0.6)) == {1, 3}, "the token that reaches it is the last"
    # Of the two likeliest, the first has 0.5 / 0.8.
    assert drawn(Sampling(1.0, top_p=0.6, top_k=2)) == {1}
    assert drawn(Sampling(0.01)) == {1}
