"""A prompt, and a set of them."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a user says; `system` overrides the system prompt of the run ("" for none)."""

    text: str
    system: str | None = None


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts in order, with the name of where they came from; `public` if that is a data set of the hub. `notes` say
    which rows of it gave no prompt."""

    source: str
    prompts: tuple[Prompt, ...]
    public: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    @property
    def digest(self) -> str:
        """Identity of texts and order."""
        rows = [[prompt.text, prompt.system] for prompt in self.prompts]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()[:16]
