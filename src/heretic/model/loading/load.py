"""Loading a model: device, dtype, tokenizer, sites."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...ablation.sites import Site
from ...errors import ModelError, UserError
from ..accelerator import accelerator, check_device_map, computes_bfloat16
from ..layers import decoder_layers, text_config, width
from ..placement import input_device
from ..sharding import agreed, ranks, sharding_arguments
from ..sites.expert_selection import with_chosen_experts
from ..sites.find import find_sites
from .chat_templates import settle_chat_template
from .checkpoint import Checkpoint
from .damage import check_adapter, check_size, check_weights, first_line, reading
from .fast_gguf import fast_gguf
from .offload_folder import OffloadFolder
from .quantization import check_quantization, even_out, quantization_arguments

if TYPE_CHECKING:
    from ...config import ModelSettings

PROBED_TOKENS, PROBED_ROW = 128, 16
"""Tokens of the first forward, and of each of its rows: enough to meet an overflow, about the work of one prompt."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, ready to be measured and edited."""

    checkpoint: Checkpoint
    model: nn.Module
    tokenizer: Any
    sites: tuple[Site, ...]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        return input_device(self.model)

    @property
    def d_model(self) -> int:
        return width(self.model)

    @property
    def layers(self) -> nn.ModuleList:
        return decoder_layers(self.model)[1]

    @property
    def vocabulary(self) -> int:
        """The number of tokens with an embedding."""
        return len(self.model.get_input_embeddings().weight)  # type: ignore[operator]

    @property
    def context_length(self) -> int | None:
        return getattr(text_config(self.model), "max_position_embeddings", None)


def load_model(checkpoint: Checkpoint, settings: "ModelSettings", say: Callable[[str], None]) -> LoadedModel:
    """The model of `load_decoder`, with its tokenizer.

    Raises:
        ModelError: one of the two can't be loaded, the sites are not found, or chosen experts do not exist.
    """
    with fast_gguf():
        tokenizer = load_tokenizer(checkpoint, settings)
        model = load_decoder(checkpoint, settings, say)
    loaded = LoadedModel(checkpoint, model, tokenizer, with_chosen_experts(find_sites(model), settings.experts))
    _pad_within(tokenizer, loaded.vocabulary)
    return loaded


def load_decoder(checkpoint: Checkpoint, settings: "ModelSettings", say: Callable[[str], None]) -> nn.Module:
    """The model in the first dtype of `settings.dtypes` that loads and gives finite logits.

    Raises:
        ModelError: no dtype works (the text gives each one's reason), or `device_map` names a missing device.
    """
    check_device_map(settings.device_map)
    check_adapter(checkpoint)
    check_quantization(checkpoint, settings)
    failures = []
    tried: set[str] = set()
    for wanted in settings.dtypes:
        dtype = choose_dtype(checkpoint, settings) if wanted == "auto" else getattr(torch, wanted)
        if str(dtype) in tried:
            continue
        tried.add(str(dtype))
        try:
            model, info = _load(checkpoint, settings, dtype)
        except UserError:
            raise
        # Readers of damaged files raise all kinds of errors; the message below names each.
        except Exception as error:  # noqa: BLE001
            failures.append(f"{wanted}: {type(error).__name__}: {first_line(error)}")
            continue
        check_weights(info, checkpoint, say)
        fault = _fault_of_forward(model)
        if fault is None:
            return model
        failures.append(f"{wanted}: {fault}")
        say(f"In {dtype}, {fault}; trying the next dtype.")
        del model
    raise ModelError(
        f"Expected a causal language model in {checkpoint.name} that loads and gives finite logits in one of "
        f"{', '.join(settings.dtypes)}; none did ({'; '.join(failures)}). Check that the files are complete, "
        "or set dtypes to one that the model supports."
    )


def load_tokenizer(checkpoint: Checkpoint, settings: "ModelSettings") -> Any:
    """The tokenizer, padding on the left, with a pad token.

    Raises:
        ModelError: the files of a tokenizer are missing or damaged.
    """
    from transformers import AutoTokenizer

    remedy = "Check that tokenizer.json and tokenizer_config.json are there and whole, and that transformers is recent."
    with reading("a tokenizer", checkpoint, remedy):
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.directory,
            trust_remote_code=settings.trust_remote_code or False,
            # If mistral-common is installed, transformers would use its tokenizer, which has no chat template.
            mistral_format=False,
            **checkpoint.source,
        )
        settle_chat_template(tokenizer, checkpoint)
    # The last position of every row must be the last token of its prompt.
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _pad_within(tokenizer: Any, vocabulary: int) -> None:
    """Pads with a token that the model has an embedding for: the tokenizer's own may have been added after training."""
    if tokenizer.pad_token_id >= vocabulary:
        eos = tokenizer.eos_token_id
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(eos if eos is not None and eos < vocabulary else 0)


def _load(checkpoint: Checkpoint, settings: "ModelSettings", dtype: torch.dtype) -> tuple[nn.Module, Mapping[str, Any]]:
    """The model, and transformers' report of the loading."""
    arguments: dict[str, Any] = dict(checkpoint.source, dtype=dtype, low_cpu_mem_usage=True)
    arguments["trust_remote_code"] = settings.trust_remote_code or False
    config = configuration(checkpoint, settings)
    kind = auto_class(config)
    check_size(kind, config, checkpoint, settings.trust_remote_code or False)
    arguments |= quantization_arguments(checkpoint, settings, dtype)
    if checkpoint.configuration is not None:
        arguments["config"] = config
    folder = None
    # On a machine without an accelerator a device map only adds hooks around every module.
    if ranks() > 1:
        arguments |= sharding_arguments(ranks())
    elif accelerator() is not None or settings.max_memory:
        arguments |= {"device_map": settings.device_map, "max_memory": settings.max_memory}
        # Only files of other formats are copied there: safetensors files are read in place.
        folder = OffloadFolder()
        arguments["offload_folder"] = folder.path
    try:
        model, info = kind.from_pretrained(checkpoint.directory, output_loading_info=True, **arguments)
    except BaseException:
        if folder is not None:
            folder.remove()
        raise
    if folder is not None:
        folder.belongs_to(model)
    model.requires_grad_(False)
    even_out(model, checkpoint, dtype)
    return model.eval(), info


def load_skeleton(
    checkpoint: Checkpoint, settings: "ModelSettings", dtype: torch.dtype, tokenizer: Any, sites: tuple[Site, ...]
) -> LoadedModel:
    """The model without weights: its structure, on no device, with the `tokenizer` and `sites` of a loaded one."""
    config = configuration(checkpoint, settings)
    kind = auto_class(config)
    with torch.device("meta"):
        trust = settings.trust_remote_code or False
        model = kind.from_config(config, dtype=dtype, trust_remote_code=trust).requires_grad_(False)
    return LoadedModel(checkpoint, model.eval(), tokenizer, sites)


def configuration(checkpoint: Checkpoint, settings: "ModelSettings") -> Any:
    """transformers' configuration of the model."""
    from transformers import AutoConfig

    with reading("a configuration", checkpoint, "Check config.json, and that transformers is recent enough for it."):
        trusted = settings.trust_remote_code or False
        if checkpoint.configuration is not None:
            original = AutoConfig.from_pretrained(checkpoint.configuration, trust_remote_code=trusted).get_text_config()
            # A model converted from a quantised checkpoint no longer has its quantisation.
            original.__dict__.pop("quantization_config", None)
            return original
        return AutoConfig.from_pretrained(checkpoint.directory, trust_remote_code=trusted, **checkpoint.source)


def auto_class(config: Any) -> Any:
    """transformers' class for a model of this configuration: of text, or of text and images, whose text decoder is
    edited."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as TEXT
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as IMAGES

    images = config.model_type in IMAGES and config.model_type not in TEXT
    return AutoModelForImageTextToText if images else AutoModelForCausalLM


@torch.inference_mode()
def _fault_of_forward(model: nn.Module) -> str | None:
    """The reason why a first forward fails in this dtype: an error, or logits that are not finite; None if it succeeds.

    The tokens are spread over the whole vocabulary, since float16 overflows only at some tokens.

    Raises:
        ModelError: the model does not run on text alone, in any dtype.
    """
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    ids = torch.linspace(0, rows - 1, PROBED_TOKENS, device=input_device(model)).long().view(-1, PROBED_ROW)
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"Expected a language model that runs on text alone; {type(model).__name__} does not "
            f"({first_line(error)}). heretic gives a model nothing but text, so this one can't be searched."
        ) from error
    except RuntimeError as error:
        return f"the first forward fails ({first_line(error)})"
    return None if bool(torch.isfinite(logits).all()) else "the logits hold NaN or inf"


def choose_dtype(checkpoint: Checkpoint, settings: "ModelSettings") -> torch.dtype:
    """The dtype of "auto" on the device that the model will be on.

    On an accelerator the checkpoint's own 16-bit one, or bfloat16; float16 where the device has no bfloat16 arithmetic.
    On a CPU the faster of bfloat16 and float32, as measured.
    """
    kind = accelerator()
    if kind is None or settings.device_map == "cpu":
        return agreed(fastest_cpu_dtype())
    stored = configuration(checkpoint, settings).dtype
    dtype = stored if isinstance(stored, torch.dtype) and stored != torch.float32 else torch.bfloat16
    return dtype if dtype != torch.bfloat16 or computes_bfloat16(kind) else torch.float16


def fastest_cpu_dtype(sizes: Sequence[int] = (128, 1024, 1024)) -> torch.dtype:
    """The faster of float32 and bfloat16 for a matrix product of the given sizes (rows, d_in, d_out) on this CPU. The
    default is a batch of 128 rows and the width of a small model.

    CPUs with avx512_bf16 or amx run bfloat16 several times faster, others several times slower.
    """
    rows, d_in, d_out = sizes

    def seconds(dtype: torch.dtype) -> float:
        x, w = torch.ones(rows, d_in, dtype=dtype), torch.ones(d_out, d_in, dtype=dtype)
        best = float("inf")
        # The best of several: the first runs warm up, and others may be interrupted.
        for _ in range(6):
            start = time.perf_counter()
            nn.functional.linear(x, w)
            best = min(best, time.perf_counter() - start)
        return best

    return min((torch.float32, torch.bfloat16), key=seconds)
