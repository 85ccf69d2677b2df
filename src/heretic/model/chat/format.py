"""Prompts as the model reads them: chat template, response prefix, tokens."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...errors import ModelError
from ...prompts.prompt import Prompt
from .template import ChatTemplate, Message, find_chat_template

Form = Literal["text", "parts"]
"""The form of a message's content: a string, or a list of parts with one text."""
FORMS: tuple[Form, ...] = ("text", "parts")
FOLDED: Literal["folded"] = "folded"
PROBE = "quokka"
"""A user's text that no template contains."""
PRINTED_PART = re.compile(r"""["']text["']\s*:\s*["']""")
"""Printed in a rendering if the template prints a part's structure, not its text."""


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How prompts become tokens for one model.

    `system_prompt` None leaves the system message to the template (many add one of their own). `form` is how the
    template reads contents. `response_prefix` is the text after which the measured response begins.
    """

    template: ChatTemplate
    system_prompt: str | None
    form: Form = "text"
    response_prefix: str = ""
    _forms: dict[str, Form | Literal["folded"]] = field(init=False, repr=False, compare=False, default_factory=dict)

    @property
    def tokenizer(self) -> Any:
        return self.template.tokenizer

    @property
    def n_prefix(self) -> int:
        """The number of tokens of the response prefix by itself."""
        return len(self.encode(self.response_prefix)) if self.response_prefix else 0

    def with_prefix(self, response_prefix: str) -> "ChatFormat":
        return replace(self, response_prefix=response_prefix)

    def with_arguments(self, **arguments: Any) -> "ChatFormat":
        """The same with more variables for the template."""
        return replace(self, template=self.template.with_arguments(**arguments))

    def as_settings(self) -> dict[str, Any]:
        """The settings with which another model of the same template gets the same chat format."""
        return {
            "response_prefix": self.response_prefix,
            "chat_template_arguments": dict(self.template.arguments),
            "chat_template_date": self.template.date,
        }

    def messages(self, prompt: Prompt) -> list[dict[str, str]]:
        """The prompt as a conversation, its system prompt in a message of its own."""
        system = self.system_prompt if prompt.system is None else prompt.system
        user = {"role": "user", "content": prompt.text}
        return [{"role": "system", "content": system}, user] if system else [user]

    @property
    def folds_system(self) -> bool:
        return self.folds(self.system_prompt)

    def folds(self, system: str | None) -> bool:
        """Whether this system prompt goes before the user's text, since the template takes no such message."""
        return bool(system) and self._system_form(str(system)) == FOLDED

    def render(self, prompt: Prompt) -> str:
        """The text that the model continues."""
        return self.render_messages(self.messages(prompt)) + self.response_prefix

    def render_messages(self, messages: Sequence[Message], continued: bool = False) -> str:
        """A conversation as text, without the response prefix; it ends in its last message if `continued`."""
        return self.template.render(self._fitted(messages), continued)

    def tokens(self, prompt: Prompt) -> list[int]:
        return self.encode(self.render(prompt))

    def encode(self, text: str) -> list[int]:
        """The tokens of a rendered text."""
        # The template has written the BOS token already; the tokenizer would add a second one.
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[Sequence[int]], special: bool = False) -> list[str]:
        """The texts of token rows, without special tokens unless `special`."""
        if not tokens:
            # The library takes an empty list for one text of no tokens.
            return []
        return self.tokenizer.batch_decode(
            list(tokens), skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )

    def _fitted(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as this template reads them."""
        if messages[0]["role"] != "system":
            return self._turns(messages)
        system = str(messages[0]["content"])
        others = list(messages[1:])
        form = self._system_form(system)
        if form != FOLDED:
            return [_in_form(messages[0], form), *self._turns(others)]
        first = others.pop(0)["content"] if others and others[0]["role"] == "user" else ""
        user = {"role": "user", "content": f"{system}\n\n{first}"}
        return self._turns([user, *others])

    def _turns(self, messages: Sequence[Message]) -> list[Message]:
        said = any(message["role"] == "assistant" for message in messages)
        forms = {"assistant": self._assistant_form() if said else self.form}
        return [_in_form(message, forms.get(str(message["role"]), self.form)) for message in messages]

    def _assistant_form(self) -> Form:
        """The form of earlier responses: a few templates expect another one than for a user's texts."""
        forms = (self.form, *(form for form in FORMS if form != self.form))
        return next((form for form in forms if self._repeats(form)), self.form)

    def _repeats(self, form: Form) -> bool:
        user = _in_form({"role": "user", "content": "Hello"}, self.form)
        try:
            text = self.template.render([user, _in_form({"role": "assistant", "content": PROBE}, form), user])
        except ModelError:
            return False
        return _times_read(text) == 1

    def _system_form(self, system: str) -> Form | Literal["folded"]:
        """The form of this system prompt: templates may refuse the role, or drop it silently."""
        if system not in self._forms:
            self._forms[system] = next((form for form in FORMS if self._takes(system, form)), FOLDED)
        return self._forms[system]

    def _takes(self, system: str, form: Form) -> bool:
        messages = [
            _in_form({"role": "system", "content": system}, form),
            _in_form({"role": "user", "content": PROBE}, self.form),
        ]
        try:
            text = self.template.render(messages)
        except ModelError:
            return False
        return contains(text, system) and _times_read(text) == 1


def chat_format(
    tokenizer: Any,
    system_prompt: str | None,
    model_name: str,
    arguments: Mapping[str, Any] | None = None,
    date: str | None = None,
) -> ChatFormat:
    """The chat format of a tokenizer; "none" or None as `system_prompt` means the template's own.

    `arguments` are variables for the template, and `date` (ISO) what it prints as today's, by default the day of this
    call.

    Raises:
        ModelError: the tokenizer has no chat template, or its template fails on a plain message or loses it.
    """
    template = find_chat_template(tokenizer, model_name, arguments, date)
    system = None if system_prompt in (None, "none") else system_prompt
    return ChatFormat(template, system, _user_form(template))


def contains(rendered: str, text: str) -> bool:
    """Whether a rendered prompt has this text, however the template trims or folds its white space."""
    return text in rendered or " ".join(text.split()) in " ".join(rendered.split())


def _user_form(template: ChatTemplate) -> Form:
    """The form in which the template reads a user's text: it must print the text exactly once.

    Raises:
        ModelError: the template fails, drops the text, or prints it more than once.
    """
    failure: ModelError | None = None
    counts = []
    for form in FORMS:
        try:
            counts.append(_times_read(template.render([_in_form({"role": "user", "content": PROBE}, form)])))
        except ModelError as error:
            failure = failure or error
            continue
        if counts[-1] == 1:
            return form
    if failure is not None and not any(counts):
        raise failure
    raise ModelError(
        f"Expected a chat template that prints the user's text once, but that of {template.model_name} prints it "
        f"{max(counts)} times, so that the model would not be asked what the prompts ask. Put a template that does "
        "next to the weights as chat_template.jinja."
    )


def _times_read(rendered: str) -> int:
    return 0 if PRINTED_PART.search(rendered) else rendered.count(PROBE)


def _in_form(message: Message, form: Form) -> Message:
    content = message.get("content")
    if form == "text" or not isinstance(content, str):
        return message
    return {**message, "content": [{"type": "text", "text": content}]}
