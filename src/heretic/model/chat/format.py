"""Prompts as the model reads them: chat template, response prefix, tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import ModelError, PromptError
from ...prompts.prompt import Prompt


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How prompts become tokens for one model.

    `system_prompt` None leaves the system message to the template (many add one of their own). `folds_system` puts it
    before the user's text, for templates that know no system role. `response_prefix` is where the measured response
    begins: all that stands before it is given.
    """

    tokenizer: Any
    system_prompt: str | None
    folds_system: bool = False
    response_prefix: str = ""

    def with_prefix(self, response_prefix: str) -> "ChatFormat":
        return replace(self, response_prefix=response_prefix)

    def messages(self, prompt: Prompt) -> list[dict[str, str]]:
        system = self.system_prompt if prompt.system is None else prompt.system
        if system is None or system == "":
            return [{"role": "user", "content": prompt.text}]
        if self.folds_system:
            return [{"role": "user", "content": f"{system}\n\n{prompt.text}"}]
        return [{"role": "system", "content": system}, {"role": "user", "content": prompt.text}]

    def render(self, prompt: Prompt) -> str:
        """The text that the model continues."""
        text = self.tokenizer.apply_chat_template(self.messages(prompt), tokenize=False, add_generation_prompt=True)
        return text + self.response_prefix

    def tokens(self, prompt: Prompt) -> list[int]:
        # The template has written the BOS token already; the tokenizer would add a second one.
        return self.tokenizer(self.render(prompt), add_special_tokens=False)["input_ids"]

    def decode(self, tokens: Sequence[Sequence[int]], special: bool = False) -> list[str]:
        """The texts of token rows, without special tokens unless `special`."""
        if not tokens:
            # The library takes an empty list for one text of no tokens.
            return []
        return self.tokenizer.batch_decode(
            list(tokens), skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )


def chat_format(tokenizer: Any, system_prompt: str | None, model_name: str) -> ChatFormat:
    """The chat format of a tokenizer; "none" or None as `system_prompt` means the template's own.

    Raises:
        ModelError: the tokenizer has no chat template, or its template fails on a plain message.
    """
    from jinja2 import TemplateError

    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"Expected a chat model, but {model_name} has no chat template. Use its instruction-tuned version, or put "
            "the template into the model directory as chat_template.jinja."
        )
    system = None if system_prompt in (None, "none") else system_prompt
    plain = ChatFormat(tokenizer, system)
    if _renders(plain, TemplateError):
        return plain
    folded = replace(plain, folds_system=True)
    try:
        folded.render(Prompt("Hello"))
    except TemplateError as error:
        raise ModelError(
            f"The chat template of {model_name} fails on one plain user message: {error}. "
            "Mend chat_template.jinja in the model directory."
        ) from error
    return folded


def _renders(chat: ChatFormat, failure: type[Exception]) -> bool:
    """Whether the template takes the system message, and does not drop it without a word."""
    try:
        text = chat.render(Prompt("Hello"))
    except failure:
        return False
    return chat.system_prompt is None or chat.system_prompt in text


def check_lengths(chat: ChatFormat, prompts: Sequence[Prompt], room: int, context_length: int | None) -> None:
    """Every prompt and `room` response tokens fit into the context.

    Raises:
        PromptError: one does not; the text shows its beginning and its length.
    """
    if context_length is None:
        return
    for number, prompt in enumerate(prompts, 1):
        length = len(chat.tokens(prompt))
        if length + room > context_length:
            raise PromptError(
                f"Expected prompts that leave room for {room} response tokens in this model's context of "
                f"{context_length}, but prompt {number} ({prompt.text[:60]!r}...) has {length} tokens. "
                "Shorten or drop it, or lower max_response_length."
            )
