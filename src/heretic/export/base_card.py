"""What an export's card takes from the base model's own."""

import re
from pathlib import Path
from typing import Any

CARD = "README.md"
KEPT = ("license", "license_name", "license_link", "language", "pipeline_tag", "tags")
"""Metadata of the base model's card that stays true of an edited one. The rest says what the base measured, where its
successor is, who may download it, or what its page loads."""
PICTURE = re.compile(r"!\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")
LOADING_TAG = re.compile(
    r"</?(?:img|picture|source|svg|video|audio|iframe|embed|object|script|link|style|meta|base)\b[^>]*>", re.IGNORECASE
)
"""HTML that loads or runs something, or says how the whole page looks."""


def read_base_card(directory: Path) -> tuple[dict[str, Any], str]:
    """Metadata and text of the card in `directory`; nothing of either where there is none."""
    import yaml
    from huggingface_hub import ModelCard

    path = directory / CARD
    if not path.is_file():
        return {}, ""
    content = path.read_text(encoding="utf-8", errors="replace")
    try:
        card = ModelCard(content, ignore_metadata_errors=True)
        metadata = card.data.to_dict()
    except (ValueError, yaml.YAMLError):
        # A head that is no metadata: its text is kept all the same.
        return {}, content
    return metadata, card.text


def kept_metadata(base: dict[str, Any]) -> dict[str, Any]:
    """The metadata of the base card that the export's card repeats."""
    known = {key: value for key, value in base.items() if key in KEPT and value is not None}
    return {key: _language(value) if key == "language" else value for key, value in known.items()}


def without_pictures(text: str) -> str:
    """The text with words in place of pictures: one of another host counts who looks at the card."""
    return LOADING_TAG.sub("", PICTURE.sub(r"\1", text))


def _language(value: Any) -> Any:
    """The languages; YAML 1.1 reads Norwegian, `no`, as false."""
    if isinstance(value, list):
        return [_language(each) for each in value]
    return "no" if value is False else value
