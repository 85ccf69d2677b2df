"""The size of a model before it is downloaded or loaded."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import expand_home
from .checkpoint import WEIGHT_SUFFIXES, HubName, gguf_parts, hub_name

HUB_SECONDS = 5.0
GGUF_TYPE = re.compile(r"(?:^|[-._])(?:BF|F|I?Q)(\d+)(_1)?(?:_|\.|-|$)", re.IGNORECASE)
"""The bits in the name of a GGUF file's type: Q4_K_M, IQ4_XS, Q8_0, BF16."""
PACKED = 0.6
"""Bytes a parameter of weights in about 4 bits, embeddings included."""
BLOCK_BITS = 0.5
"""Bits that a block's scales add to each weight of a quantised GGUF file."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The size of a model with `stored` bytes of weight files, of which `missing` are still to be downloaded.

    `parameters` is counted from the headers of the files, or else computed from their size and `exact` is False.
    `quantized` names the method of weights that are stored in fewer bits than 16.
    """

    name: str
    stored: int
    parameters: int
    exact: bool
    missing: int = 0
    quantized: str | None = None


def model_size(name: str, revision: str | None = None) -> ModelSize | None:
    """The size of a model on this machine or on the hub; None where there is no model, or the size is unknown."""
    path = expand_home(name)
    if path.exists():
        return _local_size(name, path)
    on_hub = hub_name(name)
    return None if on_hub is None else hub_size(name, on_hub, revision)


def _local_size(name: str, path: Path) -> ModelSize | None:
    if path.is_file():
        files = [each for each in gguf_parts(path) if each.is_file()]
    else:
        files = sorted(each for each in path.iterdir() if each.suffix in WEIGHT_SUFFIXES)
    if any(each.suffix == ".safetensors" for each in files):
        files = [each for each in files if each.suffix == ".safetensors"]
    stored = sum(each.stat().st_size for each in files)
    if not stored:
        return None
    config = _read_json(path / "config.json")
    if files == gguf_parts(files[0]) and (numbers := _gguf_parameters(files)):
        return ModelSize(name, stored, numbers, exact=True)
    if all(each.suffix == ".safetensors" for each in files) and "quantization_config" not in config:
        counted = [_header_parameters(each) for each in files]
        known = [each for each in counted if each is not None]
        if len(known) == len(files):
            return ModelSize(name, stored, sum(known), exact=True)
    return _by_files(name, [each.name for each in files], stored, config)


def hub_size(name: str, on_hub: HubName, revision: str | None) -> ModelSize | None:
    """What the hub says about the files that a run would download; None where it says nothing."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    from .hub import wanted_files

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        info = HfApi().model_info(on_hub.repository, revision=revision, files_metadata=True, timeout=HUB_SECONDS)
    except (HfHubHTTPError, HTTPError, OSError, ValueError):
        # Finding the model reports the error.
        return None
    sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
    names = wanted_files(list(sizes))
    if on_hub.file in sizes:
        names = [part.as_posix() for part in gguf_parts(Path(on_hub.file))]
    weights = [each for each in names if each.endswith(WEIGHT_SUFFIXES)]
    stored = sum(sizes.get(each, 0) for each in weights)
    if not stored:
        return None
    missing = sum(sizes.get(each, 0) for each in names if not _is_cached(on_hub.repository, each, info.sha))
    config = dict(info.config or {})
    if on_hub.file is None and info.safetensors is not None and "quantization_config" not in config:
        return ModelSize(name, stored, int(info.safetensors.total), exact=True, missing=missing)
    found = _by_files(name, weights, stored, config)
    return ModelSize(name, stored, found.parameters, exact=False, missing=missing, quantized=found.quantized)


def _by_files(name: str, files: list[str], stored: int, config: dict[str, Any]) -> ModelSize:
    """Bits a weight by names and configuration: those of a GGUF type or of a quantisation, otherwise 16."""
    typed = GGUF_TYPE.search(files[0]) if files[0].endswith(".gguf") else None
    if typed is not None:
        # The types ..._1 store a minimum with each scale.
        bits = int(typed[1]) + (0 if int(typed[1]) >= 16 else 2 * BLOCK_BITS if typed[2] else BLOCK_BITS)
        return ModelSize(name, stored, int(stored * 8 / bits), exact=False)
    stored_as = config.get("quantization_config") or {}
    method = stored_as.get("quant_method") if isinstance(stored_as, dict) else None
    return ModelSize(name, stored, int(stored / (PACKED if method else 2)), exact=False, quantized=method)


def _header_parameters(path: Path) -> int | None:
    """Numbers in a safetensors file, from its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    except (SafetensorError, OSError):
        return None
    return sum(math.prod(shape) for shape in shapes)


def _gguf_parameters(files: Sequence[Path]) -> int | None:
    """Numbers in a GGUF file or in all parts of a split one, from their lists of tensors."""
    from .fast_gguf import FastGGUFReader

    if files[0].suffix != ".gguf":
        return None
    try:
        return sum(int(tensor.n_elements) for file in files for tensor in FastGGUFReader(file).tensors)
    # The reader raises many kinds of errors on a damaged file; loading the file reports them.
    except Exception:  # noqa: BLE001
        return None


def _is_cached(repository: str, file: str, commit: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file, revision=commit), str)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
