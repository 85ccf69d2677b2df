"""The common prefix of a model's responses, found by generating some."""

from collections.abc import Sequence

from ..config import EvaluationSettings
from ..engine.local import LocalEngine
from ..engine.protocol import Engine, Progress, no_progress
from ..evaluation.prefix import TOKENS, Sample, find_response_prefix
from ..evaluation.thoughts import ends_in_thought
from ..events import Reporter
from ..model.chat.format import ChatFormat
from ..model.chat.thinking import thinking_off, thinking_on
from ..prompts.prompt import Prompt

PREFIX_PROMPTS = 24
FEW = 6
"""Prompts of each kind whose responses are generated to their end; these may be long."""


class SampledModel:
    """The engine's model with a sample of `prompts`, without the engine's own response prefix. `context_length` limits
    whole responses."""

    def __init__(
        self, engine: Engine, prompts: Sequence[Prompt], progress: Progress, context_length: int | None = None
    ) -> None:
        self._engine = engine
        self._chat = engine.chat.with_prefix("")
        self._prompts = prompts
        self._progress = progress
        self._context_length = context_length

    def prompt(self) -> str:
        first = self._prompts[0]
        return self._chat.render(first).rpartition(first.text.strip())[2]

    def responses(self, prefix: str) -> list[Sample]:
        return self._responses(self._prompts, prefix, TOKENS, self._progress)

    def whole_responses(self, prefix: str, n_tokens: int) -> list[Sample]:
        few = [*self._prompts[:FEW], *self._prompts[-FEW:]]
        if self._context_length is not None:
            longest = max(len(self._chat.with_prefix(prefix).tokens(prompt)) for prompt in few)
            n_tokens = max(1, min(n_tokens, self._context_length - longest))
        return self._responses(few, prefix, n_tokens, no_progress)

    def _responses(self, prompts: Sequence[Prompt], prefix: str, n_tokens: int, progress: Progress) -> list[Sample]:
        with self._engine.with_prefix(prefix):
            [responses] = self._engine.generate(prompts, [{}], n_tokens, None, progress)
        # Channels and openers may be special tokens, which the text of a response leaves out.
        texts = self._chat.decode([each.tokens for each in responses], special=True)
        return [Sample(text, each.tokens, each.complete) for text, each in zip(texts, responses, strict=True)]

    def reads(self, prefix: str, more: str, tokens: Sequence[int]) -> bool:
        first = self._prompts[0]
        before = self._chat.with_prefix(prefix).tokens(first)
        return self._chat.with_prefix(prefix + more).tokens(first) == [*before, *tokens]


def settle_thinking(chat: ChatFormat, settings: EvaluationSettings, reporter: Reporter) -> tuple[ChatFormat, str]:
    """The chat format with the template's switch for thinking set as in the settings, and the text after the prompt
    that closes a thought."""
    if settings.response_prefix is not None:
        # A prefix that the user gives is meant for the template's default.
        return chat, settings.response_prefix
    thinking = thinking_on(chat) if settings.measure_thinking else thinking_off(chat)
    if thinking.arguments:
        switch = ", ".join(f"{name} = {value!r}".lower() for name, value in thinking.arguments.items())
        state = "on" if settings.measure_thinking else "off"
        reporter.say(f"The chat template switches thinking {state}: {switch}.")
    return chat.with_arguments(**thinking.arguments), thinking.closing


def response_prefix(
    engine: LocalEngine, closing: str, settings: EvaluationSettings, prompts: Sequence[Prompt], reporter: Reporter
) -> str:
    """The text that all responses begin with, `closing` included, which closes a thought."""
    if settings.response_prefix is not None:
        return settings.response_prefix
    sample = [*prompts[:PREFIX_PROMPTS], *prompts[-PREFIX_PROMPTS:]]
    with reporter.step("Finding the response prefix", len(sample)) as progress:
        model = SampledModel(engine, sample, progress, engine.loaded.context_length)
        prefix = find_response_prefix(model, settings.chain_of_thought_skips, settings.measure_thinking, closing)
    if not settings.measure_thinking and ends_in_thought(model.prompt() + prefix):
        opened = (model.prompt() + prefix)[-40:]
        reporter.warn(
            f"Responses seem to begin inside a chain of thought (after {opened!r}), and no end of it was found: "
            "refusals and KL divergence are those of the thought. Give the text that closes it as response_prefix, "
            "switch it off with chat_template_arguments, or set measure_thinking if that is what you want to measure."
        )
    if prefix:
        reporter.say(f"All responses begin with {prefix!r}: measuring after it.")
    return prefix
