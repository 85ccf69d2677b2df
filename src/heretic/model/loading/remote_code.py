"""Remote code: the Python files that loading a model would run, found without running any."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import parse_json
from .checkpoint import Checkpoint

CONFIGS = ("config.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class RemoteCode:
    """The checkpoint's Python files that loading it would run, with the classes used from them; `elsewhere` names other
    hub repositories whose code would be downloaded."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    elsewhere: tuple[str, ...]

    def described(self) -> list[str]:
        """One line for each thing that would run."""
        lines = [f"{path} ({len(path.read_text(errors='replace').splitlines())} lines)" for path in self.files]
        return lines + [f"code of the hub repository {name}, which may change" for name in self.elsewhere]


def needed_code(checkpoint: Checkpoint) -> RemoteCode | None:
    """The code that this checkpoint needs; None where transformers has classes of its own for it."""
    if checkpoint.gguf_file is not None:
        return None
    model, tokenizer = (_read(checkpoint.directory / name) for name in CONFIGS)
    wanted = [*_model_classes(model), *_tokenizer_classes(model, tokenizer)]
    if not wanted:
        return None
    files: dict[Path, None] = {}
    elsewhere: dict[str, None] = {}
    for reference in wanted:
        repository, _, name = reference.rpartition("--")
        if repository:
            elsewhere[repository] = None
        else:
            files |= dict.fromkeys(_with_imports(checkpoint.directory / f"{name.partition('.')[0]}.py"))
    return RemoteCode(tuple(wanted), tuple(files), tuple(elsewhere))


def _model_classes(config: dict[str, Any]) -> Iterator[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    own = _auto_map(config)
    known = str(config.get("model_type")) in CONFIG_MAPPING
    if not known and "AutoConfig" in own:
        yield own["AutoConfig"]
    # transformers may know a model type without a causal language model for it.
    lacking = not known or CONFIG_MAPPING[config["model_type"]] not in MODEL_FOR_CAUSAL_LM_MAPPING
    if lacking and "AutoModelForCausalLM" in own:
        yield own["AutoModelForCausalLM"]


def _tokenizer_classes(config: dict[str, Any], tokenizer: dict[str, Any]) -> Iterator[str]:
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    own = _auto_map(tokenizer).get("AutoTokenizer")
    name = tokenizer.get("tokenizer_class")
    known = config.get("model_type") in TOKENIZER_MAPPING_NAMES
    if own is None or known or (name is not None and tokenizer_class_from_name(name) is not None):
        return
    yield from [each for each in (own if isinstance(own, list) else [own]) if each]


def _auto_map(config: dict[str, Any]) -> dict[str, Any]:
    own = config.get("auto_map")
    # Old tokenizers list their classes there.
    return own if isinstance(own, dict) else {} if own is None else {"AutoTokenizer": own}


def _with_imports(path: Path) -> list[Path]:
    """The file and those of its directory that it imports, as transformers follows them."""
    from transformers.dynamic_module_utils import get_relative_import_files

    if not path.is_file():
        return [path]
    return [path, *sorted(map(Path, get_relative_import_files(str(path))))]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Loading the model reports the error.
        return {}
    return content if isinstance(content, dict) else {}
