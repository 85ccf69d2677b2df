"""Checks that prompts reach the model whole: their text, their length, their tokens."""

from collections.abc import Sequence

from ...errors import PromptError
from ...prompts.prompt import Prompt
from .format import ChatFormat, contains


def check_prompts(
    chat: ChatFormat, prompts: Sequence[Prompt], room: int, context_length: int | None, vocabulary: int | None = None
) -> None:
    """Makes sure that the text of every prompt reaches the model, in tokens that it has, with room in the context for
    a response of `room` tokens.

    Raises:
        PromptError: one does not; the text shows its beginning.
    """
    seen: set[tuple[int, ...]] = set()
    for number, prompt in enumerate(prompts, 1):
        rendered = chat.render(prompt)
        shown = f"prompt {number} ({prompt.text[:60]!r}...)"
        for message in chat.messages(prompt):
            if not contains(rendered, message["content"]):
                what = "text" if message["role"] == "user" else "system prompt"
                raise PromptError(
                    f"Expected the {what} of {shown} in what the model reads, but the chat template of "
                    f"{chat.template.model_name} leaves it out or changes it. Drop or reword it."
                )
        tokens = chat.encode(rendered)
        if not tokens:
            raise PromptError(
                f"Expected tokens of {shown}, but the tokenizer of {chat.template.model_name} makes none of it: its "
                "files seem to belong to another class of tokenizer. Check tokenizer.json and tokenizer_config.json."
            )
        seen.add(tuple(tokens))
        if vocabulary is not None and tokens and max(tokens) >= vocabulary:
            raise PromptError(
                f"Expected tokens from 0 to {vocabulary - 1}, those of the model's embeddings, but {shown} has token "
                f"{max(tokens)} ({chat.decode([[max(tokens)]], special=True)[0]!r}). Reword the prompt, or give the "
                "tokenizer that the model was trained with."
            )
        if context_length is not None and len(tokens) + room > context_length:
            raise PromptError(
                f"Expected prompts that leave room for {room} response tokens in this model's context of "
                f"{context_length}, but {shown} has {len(tokens)} tokens. "
                "Shorten or drop it, or lower max_response_length."
            )
    if len(seen) == 1 and len({prompt.text for prompt in prompts}) > 1:
        raise PromptError(
            f"Expected prompts that differ in their tokens, but the tokenizer of {chat.template.model_name} makes the "
            "same of all. Check tokenizer.json and tokenizer_config.json."
        )
