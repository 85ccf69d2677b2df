"""How a model's responses begin, by generating some."""

from collections.abc import Sequence

from ..engine.protocol import Engine, Progress
from ..evaluation.prefix import TOKENS, Sample
from ..prompts.prompt import Prompt


class SampledModel:
    """The engine's model, asked with `prompts`; its own response prefix plays no part."""

    def __init__(self, engine: Engine, prompts: Sequence[Prompt], progress: Progress) -> None:
        self._engine = engine
        self._chat = engine.chat.with_prefix("")
        self._prompts = prompts
        self._progress = progress

    def prompt(self) -> str:
        return self._chat.render(self._prompts[0])

    def responses(self, prefix: str) -> list[Sample]:
        with self._engine.with_prefix(prefix):
            [responses] = self._engine.generate(self._prompts, [{}], TOKENS, None, self._progress)
        # A channel or an opener may be special tokens, which a response's text is without.
        texts = self._chat.decode([each.tokens for each in responses], special=True)
        return [Sample(text, each.tokens, each.complete) for text, each in zip(texts, responses, strict=True)]

    def reads(self, prefix: str, more: str, tokens: Sequence[int]) -> bool:
        first = self._prompts[0]
        before = self._chat.with_prefix(prefix).tokens(first)
        return self._chat.with_prefix(prefix + more).tokens(first) == [*before, *tokens]
