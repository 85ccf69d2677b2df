"""Which type llama.cpp gives each tensor of a file: Q4_K_M is mostly Q4_K, with more bits where errors cost most.

The rules are those of llama-quantize (llama.cpp, src/llama-quant.cpp), as a table: by kind of tensor, the first rule
whose condition holds gives its type; otherwise the file's base type.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gguf import GGML_QUANT_SIZES, LlamaFileType
from gguf import GGMLQuantizationType as Type


@dataclass(frozen=True, slots=True)
class Model:
    """What the choice depends on. `grouped` is the number of heads that share keys and values."""

    layers: int
    grouped: int = 1
    experts: int = 0
    tied: bool = False
    importance: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's layer in a model."""

    layer: int
    model: Model


Condition = Callable[[Place], bool]
Rules = tuple[tuple[Condition, Type], ...]


@dataclass(frozen=True, slots=True)
class FileType:
    """Base type, the type of the output layer, and rules by kind of tensor."""

    base: Type
    number: LlamaFileType
    output: Type = Type.Q6_K
    rules: Mapping[str, Rules] = field(default_factory=dict)
    few_bits: bool = False
    """So few that llama-quantize refuses it without an importance matrix."""


def _always(place: Place) -> bool:
    return True


def _grouped(place: Place) -> bool:
    return place.model.grouped >= 4


def _grouped_or_routed(place: Place) -> bool:
    return place.model.grouped >= 4 or place.model.experts >= 4


def _more_bits(place: Place) -> bool:
    """The first and last eighth of the layers, and every third between."""
    layer, eighth = place.layer, place.model.layers // 8
    return layer < eighth or layer >= 7 * place.model.layers // 8 or (layer - eighth) % 3 == 2


def _first(parts: int) -> Condition:
    return lambda place: place.layer < place.model.layers // parts


def _layers(count: int) -> Condition:
    return lambda place: place.layer < count


def _more_bits_of_eight(place: Place) -> bool:
    return place.model.experts == 8 and _more_bits(place)


def _middle(place: Place) -> bool:
    return place.model.layers // 8 <= place.layer < 7 * place.model.layers // 8


def _weighted(condition: Condition) -> Condition:
    return lambda place: place.model.importance and condition(place)


def _unweighted(condition: Condition) -> Condition:
    return lambda place: not place.model.importance and condition(place)


def _plain(base: Type, number: LlamaFileType) -> FileType:
    return FileType(base, number, base if base in (Type.Q8_0, Type.F32, Type.F16, Type.BF16) else Type.Q6_K)


def _low(base: Type, number: LlamaFileType, more: Type, embedding: Type, attention: Rules) -> FileType:
    rules = {
        "value": ((_grouped_or_routed, Type.Q4_K), (_always, more)),
        "down": ((_first(8), more),),
        "attention": attention,
        "embedding": ((_always, embedding),),
    }
    return FileType(base, number, Type.Q5_K, rules, few_bits=True)


def _medium(base: Type, number: LlamaFileType) -> FileType:
    return FileType(base, number, rules={"value": ((_more_bits, Type.Q6_K),), "down": ((_more_bits, Type.Q6_K),)})


_File = LlamaFileType
_FOUR_BITS: Mapping[str, Rules] = {
    "value": ((_grouped, Type.Q5_K),),
    "down": ((_unweighted(_first(8)), Type.Q5_K),),
}
_GROUPED_V: Rules = ((_grouped, Type.Q4_K),)

FILE_TYPES: Mapping[str, FileType] = {
    "F32": _plain(Type.F32, _File.ALL_F32),
    "F16": _plain(Type.F16, _File.MOSTLY_F16),
    "BF16": _plain(Type.BF16, _File.MOSTLY_BF16),
    "Q8_0": _plain(Type.Q8_0, _File.MOSTLY_Q8_0),
    "Q6_K": _plain(Type.Q6_K, _File.MOSTLY_Q6_K),
    "Q5_K_M": _medium(Type.Q5_K, _File.MOSTLY_Q5_K_M),
    "Q5_K_S": _plain(Type.Q5_K, _File.MOSTLY_Q5_K_S),
    "Q5_1": _plain(Type.Q5_1, _File.MOSTLY_Q5_1),
    "Q5_0": FileType(Type.Q5_0, _File.MOSTLY_Q5_0, rules={"down": ((_weighted(_first(8)), Type.Q5_1),)}),
    "Q4_K_M": _medium(Type.Q4_K, _File.MOSTLY_Q4_K_M),
    "Q4_K_S": FileType(
        Type.Q4_K,
        _File.MOSTLY_Q4_K_S,
        rules={"value": ((_layers(4), Type.Q5_K),), "down": ((_first(8), Type.Q5_K),)},
    ),
    "Q4_1": _plain(Type.Q4_1, _File.MOSTLY_Q4_1),
    "Q4_0": FileType(Type.Q4_0, _File.MOSTLY_Q4_0, rules={"down": ((_weighted(_first(8)), Type.Q4_1),)}),
    "IQ4_NL": FileType(Type.IQ4_NL, _File.MOSTLY_IQ4_NL, rules=_FOUR_BITS),
    "IQ4_XS": FileType(Type.IQ4_XS, _File.MOSTLY_IQ4_XS, rules=_FOUR_BITS),
    "Q3_K_L": FileType(
        Type.Q3_K,
        _File.MOSTLY_Q3_K_L,
        rules=dict.fromkeys(("value", "down", "attention"), ((_always, Type.Q5_K),)),
    ),
    "Q3_K_M": FileType(
        Type.Q3_K,
        _File.MOSTLY_Q3_K_M,
        rules={
            "value": ((_layers(2), Type.Q5_K), (_always, Type.Q4_K)),
            "down": ((_first(16), Type.Q5_K), (_always, Type.Q4_K)),
            "attention": ((_always, Type.Q4_K),),
        },
    ),
    "Q3_K_S": _plain(Type.Q3_K, _File.MOSTLY_Q3_K_S),
    "IQ3_M": FileType(
        Type.IQ3_S,
        _File.MOSTLY_IQ3_M,
        rules={
            "value": ((_always, Type.Q4_K),),
            "down": ((_first(8), Type.Q4_K), (_more_bits_of_eight, Type.Q4_K)),
            "attention": ((_always, Type.Q4_K),),
        },
    ),
    "IQ3_S": FileType(Type.IQ3_S, _File.MOSTLY_IQ3_S, rules={"value": _GROUPED_V}),
    "IQ3_XS": FileType(
        Type.IQ3_S,
        _File.MOSTLY_IQ3_XS,
        rules={"value": _GROUPED_V}
        | dict.fromkeys(("query", "key"), ((_always, Type.IQ3_XXS),))
        | dict.fromkeys(("gate", "up"), ((_middle, Type.IQ3_XXS),)),
    ),
    "IQ3_XXS": FileType(
        Type.IQ3_XXS,
        _File.MOSTLY_IQ3_XXS,
        Type.Q5_K,
        rules={
            "value": _GROUPED_V,
            "query": ((_always, Type.IQ2_S),),
            "key": ((_always, Type.IQ2_S),),
            "attention": ((_always, Type.IQ3_S),),
            "embedding": ((_always, Type.IQ3_S),),
        },
        few_bits=True,
    ),
    "Q2_K": FileType(
        Type.Q2_K,
        _File.MOSTLY_Q2_K,
        rules={
            "value": (*_GROUPED_V, (_always, Type.Q3_K)),
            "down": ((_always, Type.Q3_K),),
            "attention": ((_always, Type.Q3_K),),
        },
    ),
    "IQ2_M": _low(Type.IQ2_S, _File.MOSTLY_IQ2_M, Type.IQ3_S, Type.IQ3_S, ((_always, Type.IQ3_S),)),
    "IQ2_S": _low(Type.IQ2_XS, _File.MOSTLY_IQ2_S, Type.IQ3_S, Type.IQ3_S, ((_always, Type.IQ3_S),)),
    "IQ2_XS": _low(Type.IQ2_XS, _File.MOSTLY_IQ2_XS, Type.Q2_K, Type.Q2_K, ()),
    "IQ2_XXS": _low(Type.IQ2_XXS, _File.MOSTLY_IQ2_XXS, Type.Q2_K, Type.Q2_K, ()),
}
"""The types of files that can be written, the largest first."""

KINDS = {
    "output": re.compile(r"output\.weight"),
    "embedding": re.compile(r"(per_layer_)?token_embd\.weight"),
    "value": re.compile(r"blk\.\d+\.attn_(v|qkv|kv_b)\.weight"),
    "key": re.compile(r"blk\.\d+\.attn_k\.weight"),
    "query": re.compile(r"blk\.\d+\.attn_q\.weight"),
    "attention": re.compile(r"blk\.\d+\.attn_output\.weight"),
    "up": re.compile(r"blk\.\d+\.ffn_up.*"),
    "gate": re.compile(r"blk\.\d+\.ffn_gate.*"),
    "down": re.compile(r"blk\.\d+\.ffn_down.*"),
}
FULL = re.compile(
    r"_norm|ffn_gate_inp|altup|laurel|per_layer_model_proj|position_embd|token_types|ssm_conv1d|shortconv"
)
"""Parts of the names of matrices that are never quantised: norms, routers, small ones."""

FALLBACKS = {
    **dict.fromkeys((Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S, Type.IQ3_XXS, Type.IQ3_S, Type.IQ4_XS), Type.IQ4_NL),
    Type.Q2_K: Type.Q4_0,
    Type.Q3_K: Type.Q4_0,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
}
"""Types in blocks of 32 for rows that are no multiple of 256."""

LARGER = frozenset({_File.MOSTLY_Q5_K_M, _File.MOSTLY_Q5_K_S, _File.MOSTLY_Q6_K, _File.MOSTLY_Q3_K_L})
OLDER = frozenset({_File.MOSTLY_Q4_0, _File.MOSTLY_Q4_1, _File.MOSTLY_Q5_0, _File.MOSTLY_Q5_1})
"""Files in which the attention's output has the base type in a mixture of eight too; in all others, Q5_K."""


def quantised(name: str, dimensions: int) -> bool:
    """Whether a tensor is quantised in a file of any type; the others stay F32."""
    return dimensions >= 2 and name.endswith("weight") and FULL.search(name) is None


def tensor_type(name: str, columns: int, file_type: FileType, model: Model) -> Type:
    """The type of the quantised tensor `name` with rows of `columns`."""
    kind = next((kind for kind, pattern in KINDS.items() if pattern.fullmatch(name)), "")
    fits = columns % GGML_QUANT_SIZES[file_type.base][0] == 0
    if kind == "output" or (kind == "embedding" and model.tied):
        chosen = file_type.output if fits else Type.Q8_0
    else:
        chosen = _by_rules(kind, name, file_type, model)
    if columns % GGML_QUANT_SIZES[chosen][0]:
        chosen = FALLBACKS.get(chosen, Type.F16)
    return chosen if columns % GGML_QUANT_SIZES[chosen][0] == 0 else Type.F16


def _by_rules(kind: str, name: str, file_type: FileType, model: Model) -> Type:
    if file_type.base in (Type.Q8_0, Type.F32, Type.F16, Type.BF16):
        return file_type.base
    if model.experts == 8 and kind in ("value", "key", "attention"):
        return _of_eight(kind, file_type)
    number = re.match(r"blk\.(\d+)\.", name)
    place = Place(int(number[1]) if number else 0, model)
    found = (chosen for condition, chosen in file_type.rules.get(kind, ()) if condition(place))
    chosen = next(found, file_type.base)
    # Of 80 layers with grouped values these are an eighth of the queries: more bits cost next to nothing.
    if kind == "value" and model.layers == 80 and model.grouped >= 4 and chosen in (Type.Q3_K, Type.Q4_K):
        return Type.Q5_K
    return chosen


def _of_eight(kind: str, file_type: FileType) -> Type:
    """The type of a weight of the attention in a mixture of eight experts."""
    if kind == "attention":
        return file_type.base if file_type.number in LARGER | OLDER else Type.Q5_K
    return Type.Q4_K if file_type.base in (Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S) else Type.Q8_0
