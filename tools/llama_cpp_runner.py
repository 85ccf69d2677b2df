"""Tokens and logits that llama.cpp computes from a GGUF file, by its C interface in the xllamacpp package.

Parameters are passed by value in structures whose length depends on the version. Here they are numbers that are longer
than any of these structures: on x86-64 a structure is returned through a pointer and passed on the stack, where the
callee reads its own length.
"""

import ctypes
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


class Parameters(ctypes.Structure):
    """Any of the structures, longer than it is."""

    _fields_ = [("content", ctypes.c_uint32 * 256)]


class _Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        *((name, ctypes.c_void_p) for name in ("embd", "pos", "n_seq_id", "seq_id")),
        ("logits", ctypes.c_void_p),
    ]


class LlamaCpp:
    """One model in llama.cpp, on the CPU."""

    def __init__(self, path: Path, context: int = 512) -> None:
        self._library = _library()
        parameters = self._library.llama_model_default_params()
        self._model = self._library.llama_model_load_from_file(str(path).encode(), parameters)
        assert self._model, f"llama.cpp can't load {path}"
        self._vocabulary = self._library.llama_model_get_vocab(self._model)
        self.n_vocabulary = self._library.llama_vocab_n_tokens(self._vocabulary)
        parameters = self._library.llama_context_default_params()
        # n_ctx, n_batch, n_ubatch: the first fields.
        parameters.content[:3] = (context, context, context)
        self._context = self._library.llama_init_from_model(self._model, parameters)
        assert self._context, f"llama.cpp can't make a context for {path}"

    def close(self) -> None:
        self._library.llama_free(self._context)
        self._library.llama_model_free(self._model)

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """The tokens of a text, with those that the tokenizer adds."""
        raw = text.encode()
        room = (ctypes.c_int32 * (len(raw) + 8))()
        count = self._library.llama_tokenize(self._vocabulary, raw, len(raw), room, len(room), special, special)
        assert count >= 0
        return list(room[:count])

    def logits(self, tokens: list[int]) -> np.ndarray:
        """The logits (token, vocabulary) at each of some tokens, fp32."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
        given, wanted = (ctypes.c_int32 * len(tokens))(*tokens), (ctypes.c_int8 * len(tokens))(*[1] * len(tokens))
        batch = self._library.llama_batch_get_one(given, len(tokens))
        batch.logits = ctypes.cast(wanted, ctypes.c_void_p)
        assert self._library.llama_decode(self._context, batch) == 0
        found = self._library.llama_get_logits(self._context)
        return np.ctypeslib.as_array(found, (len(tokens), self.n_vocabulary)).copy()


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
SILENT = _LOG(lambda *_: None)
"""Discards llama.cpp's log messages."""


def find_llama_cpp() -> Path | None:
    """The library in the xllamacpp package; None where that is not installed."""
    try:
        files = metadata.files("xllamacpp") or []
    except metadata.PackageNotFoundError:
        return None
    found = [file.locate() for file in files if file.name.startswith("xllamacpp.") and file.suffix in (".so", ".pyd")]
    return Path(str(found[0])) if found else None


def _library() -> Any:
    """The functions used here, with their types."""
    path = find_llama_cpp()
    assert path is not None, "llama.cpp is needed: pip install xllamacpp"
    library = ctypes.CDLL(str(path))
    pointer, integer = ctypes.c_void_p, ctypes.c_int32
    tokens = ctypes.POINTER(ctypes.c_int32)
    for name, result, arguments in (
        ("llama_log_set", None, [_LOG, pointer]),
        ("llama_backend_init", None, []),
        ("llama_model_default_params", Parameters, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Parameters]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", integer, [pointer]),
        ("llama_context_default_params", Parameters, []),
        ("llama_init_from_model", pointer, [pointer, Parameters]),
        ("llama_free", None, [pointer]),
        ("llama_model_free", None, [pointer]),
        (
            "llama_tokenize",
            integer,
            [pointer, ctypes.c_char_p, integer, tokens, integer, ctypes.c_bool, ctypes.c_bool],
        ),
        ("llama_get_memory", pointer, [pointer]),
        ("llama_memory_clear", None, [pointer, ctypes.c_bool]),
        ("llama_batch_get_one", _Batch, [tokens, integer]),
        ("llama_decode", integer, [pointer, _Batch]),
        ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.llama_log_set(SILENT, None)
    library.llama_backend_init()
    return library
