"""The kind of checkpoint that a directory is recognised as."""

from pathlib import Path

import pytest

from heretic.errors import ModelError
from heretic.model.loading.checkpoint import find_checkpoint


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"base_model_name_or_path": "OWNER/BASE"}', "a PEFT adapter alone, of the model OWNER/BASE. Merge it"),
        ("[]", "a PEFT adapter alone. Merge it"),
        ("[" * 100_000, "a PEFT adapter alone. Merge it"),
    ],
)
def test_an_adapter_alone_is_named(content: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match=named):
        find_checkpoint(str(tmp_path))
