"""The metadata of a GGUF file with some keys changed, all others byte for byte.

A file begins with magic, version, number of tensors and number of keys; then keys with type and value, then the table
of tensors. (ggml, docs/gguf.md, "File Structure")
"""

import struct
from collections.abc import Mapping, Sequence

import gguf
from gguf import GGUFReader, GGUFValueType

Value = str | int | Sequence[str]
START = 24
"""Bytes before the first key."""
COUNT = 16
"""Where the number of keys is."""


def header_bytes(file: GGUFReader, changes: Mapping[str, Value]) -> bytes:
    """Everything before the table of tensors, with `changes` in place of those keys, or after the others."""
    order = ">" if file.endianess == gguf.GGUFEndian.BIG else "<"
    raw = file.data[: file.tensors[0].field.offset]
    fields = [one for one in file.fields.values() if not one.name.startswith("GGUF.")]
    ends = [*(one.offset for one in fields[1:]), len(raw)]
    kept = [
        (one.name, raw[one.offset : end].tobytes())
        for one, end in zip(fields, ends, strict=True)
        if one.name not in changes
    ]
    added = [_pair(order, key, value) for key, value in changes.items()]
    first = bytearray(raw[:START].tobytes())
    struct.pack_into(f"{order}Q", first, COUNT, len(kept) + len(added))
    return bytes(first) + b"".join(content for _, content in kept) + b"".join(added)


def _pair(order: str, key: str, value: Value) -> bytes:
    name = _text(order, key)
    if isinstance(value, str):
        return name + struct.pack(f"{order}I", GGUFValueType.STRING) + _text(order, value)
    if isinstance(value, int):
        return name + struct.pack(f"{order}II", GGUFValueType.UINT32, value)
    kinds = struct.pack(f"{order}IIQ", GGUFValueType.ARRAY, GGUFValueType.STRING, len(value))
    return name + kinds + b"".join(_text(order, each) for each in value)


def _text(order: str, text: str) -> bytes:
    content = text.encode()
    return struct.pack(f"{order}Q", len(content)) + content
