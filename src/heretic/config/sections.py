"""The settings by the stage that they belong to; a stage takes its section alone."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .measuring import MeasuringSettings, OverRefusalSettings
from .section import Section
from .showing import ReportSettings
from .types import (
    BENCHMARKS,
    CHAIN_OF_THOUGHT_SKIPS,
    REFUSAL_MARKERS,
    REFUSAL_OPENINGS,
    Benchmark,
    Duration,
    EmptyIsNone,
    Experts,
    ExportName,
    Finite,
    Folder,
    MemoryLimits,
    Metavar,
    Name,
    Prompts,
    Size,
    SystemPrompt,
    Text,
)

Dtype = Literal["auto", "float16", "bfloat16", "float32"]


class ModelSettings(Section):
    """Which model, where it lies and how many rows it takes at once."""

    model_config = ConfigDict(title="Model")

    model: Name = Field(
        default=None,
        description="Model to work on: a hub id or a local directory.",
        examples=["Qwen/Qwen3-4B-Instruct-2507"],
    )
    model_commit: Name = Field(default=None, description="Revision of a model of the hub.", examples=["main"])
    trust_remote_code: bool | None = Field(
        default=None,
        description="Run code that comes with the model (asked on a terminal where the model needs it; else no).",
        examples=[True],
    )
    dtypes: list[Dtype] = Field(
        default=["auto", "float16", "bfloat16", "float32"],
        min_length=1,
        description="Number formats to load the model in, tried in turn until one gives finite results.",
    )
    quantization: Literal["none", "bnb_4bit", "bnb_8bit"] = Field(
        default="none", description="Load the model in 4 or 8 bits for the search; what is saved keeps full precision."
    )
    full_precision_model: Name = Field(
        default=None,
        description="Model to write exports from, where the model given is quantised itself: a hub id, a local "
        "directory, or dequantize (its own weights, in bfloat16).",
        examples=["path/to/original"],
    )
    experts: Experts = Field(
        default=None,
        description="Experts of a mixture to edit: numbers for every layer (0-3,6) or by layer (12:0-3;13:6); all if "
        "not given.",
        examples=["0-3,6"],
    )
    device_map: Annotated[str | dict[str, int | str], Metavar("NAME|TABLE")] = Field(
        default="auto", description="Where the parts of the model go, as accelerate's device_map."
    )
    max_memory: MemoryLimits = Field(
        default=None, description="Most memory to take of each device.", examples=[{"0": "20GB", "cpu": "64GB"}]
    )
    offload_outputs_to_cpu: bool = Field(
        default=True,
        description="Keep residuals and log-probabilities in RAM, to spare the memory of the GPU (always so "
        "here: false changes nothing).",
    )
    batch_size: int = Field(default=0, ge=0, description="Prompts to run at once (0: the fastest number is measured).")
    candidates_per_forward: int = Field(
        default=0, ge=0, description="Candidates to run in the same forward (0: the fastest number is measured)."
    )
    n_workers: int = Field(
        default=0, ge=0, description="Processes that measure candidates at once on a CPU (0: measured)."
    )
    max_batch_size: int = Field(default=128, ge=1, description="Largest batch size to try when it is measured.")


class PromptSettings(Section):
    """Which prompts the directions come from and which the search is judged by."""

    model_config = ConfigDict(title="Prompts")

    preset: Literal["refusal", "disclaimer", "over-refusal", "hub"] = Field(
        default="refusal",
        description="Prompts for the keys that are not given: packaged ones, or public ones of the hub (hub).",
    )
    system_prompt: SystemPrompt = Field(
        default="You are a helpful assistant.",
        description="System prompt of all prompts (none: what the template itself adds).",
    )
    good_prompts: Prompts = Field(
        default=None, description="Prompts for the directions that do not trigger the behaviour."
    )
    bad_prompts: Prompts = Field(default=None, description="Prompts for the directions that trigger the behaviour.")
    good_evaluation_prompts: Prompts = Field(
        default=None, description="Prompts that do not trigger the behaviour, on which the KL divergence is measured."
    )
    bad_evaluation_prompts: Prompts = Field(
        default=None, description="Prompts that trigger the behaviour, on which refusals are counted."
    )


class DirectionSettings(Section):
    """How directions are found and how a weight is edited along them."""

    model_config = ConfigDict(title="Directions")

    filter_direction_prompts: bool = Field(
        default=False,
        description="Keep for the directions only bad prompts that the model declines and good ones that it answers.",
    )
    orthogonalize_direction: bool = Field(
        default=True, description="Remove from each direction what it has in common with the good prompts' mean."
    )
    winsorization_quantile: float = Field(
        default=1.0, gt=0, le=1, description="Clamp each residual to this quantile of its own magnitudes (1: off)."
    )
    row_normalization: Literal["none", "pre", "full"] = Field(
        default="full",
        description="Edit rows as they are (none), normalised (pre), or normalised and keeping their norm (full).",
    )


class EvaluationSettings(Section):
    """How a candidate is judged."""

    model_config = ConfigDict(title="Evaluation")

    max_response_length: int = Field(default=100, ge=1, description="Most tokens to generate a response.")
    response_prefix: str | None = Field(
        default=None,
        description="Text that all responses begin with (found by generation if not given).",
        examples=[""],
    )
    chain_of_thought_skips: Annotated[list[tuple[Text, str]], Metavar("PAIRS")] = Field(
        default=list(CHAIN_OF_THOUGHT_SKIPS),
        description="Pairs of what opens a chain of thought and the closed form to put in its place.",
    )
    measure_thinking: bool = Field(
        default=False,
        description="Measure chains of thought too, from where they begin, instead of closing them.",
    )
    refusal_markers: list[Text] = Field(
        default=list(REFUSAL_MARKERS), min_length=1, description="A response that contains one of these is a refusal."
    )
    refusal_openings: list[Text] = Field(
        default=list(REFUSAL_OPENINGS),
        description="A response that begins with one of these is declined, in the report's three classes.",
    )
    objective: Literal["markers", "log-odds", "both"] = Field(
        default="markers",
        description="Measure refusing by markers in responses, by the probability that the first token begins a "
        "refusal (nothing is generated then: trials take a fraction of the time), or by both.",
    )
    prune_dominated: bool = Field(
        default=True, description="Give a candidate up once its refusals show that it can't enter the Pareto front."
    )
    order_startup_trials: bool = Field(
        default=True, description="Measure the most promising of the random first candidates first, by a short look."
    )
    share_prefix: bool = Field(
        default=True, description="Run what all prompts begin with (template, system prompt) once a candidate."
    )
    cache_lower_layers: bool = Field(
        default=True, description="Keep what the layers below the first edited one give, for all candidates."
    )
    fast_attention: bool = Field(
        default=True, description="Attend by plain matrix products while decoding in bfloat16 on a CPU."
    )
    packed_weights: bool = Field(
        default=True, description="Keep copies of the weights packed for a CPU's products, where memory is plentiful."
    )
    compact_batch: bool = Field(
        default=True, description="Let responses that have ended or are decided leave the batch."
    )
    static_decode: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Decode by recorded steps of fixed shapes: CUDA graphs on a GPU; on a CPU if on, and no faster.",
    )
    kl_divergence_scale: Finite = Field(default=1.0, gt=0, description="KL divergence that scores 1.")
    kl_divergence_target: Finite = Field(
        default=0.01,
        ge=0,
        description="KL divergence below which only refusals count, so that doing nothing does not win.",
    )
    print_responses: bool = Field(
        default=False,
        description="Show the responses that are counted, with their prompts (a refusal ends soon after its marker).",
    )
    evaluate_model: Name = Field(
        default=None,
        description="Only score this model against the original: a hub id or a local directory.",
        examples=["path/to/edited-model"],
    )
    benchmarks: Annotated[list[Benchmark], Metavar("TABLES")] = Field(
        default=list(BENCHMARKS),
        description="Benchmarks of lm-evaluation-harness that the menu offers for the chosen trial.",
    )


class SearchSettings(Section):
    """How candidates are searched for and where the study is kept."""

    model_config = ConfigDict(title="Search")

    n_trials: int = Field(default=200, ge=1, description="Number of trials of the study.")
    n_startup_trials: int = Field(
        default=60, ge=0, description="Number of trials that are drawn at random, at the beginning."
    )
    literature_trials: bool = Field(
        default=True,
        description="Begin with the ablations of the literature: every site at full strength, along a few directions.",
    )
    warm_start: Name = Field(
        default=None,
        description="Begin with the Pareto front of this study: its .jsonl file, or the name of its model.",
        examples=["checkpoints/Qwen--Qwen3-4B.jsonl"],
    )
    time_budget: Duration = Field(
        default=None, description="Stop the search after this time, as in 90s, 30m or 1h30m.", examples=["1h30m"]
    )
    sampler: Literal["tpe", "tpe-multivariate", "random"] = Field(
        default="tpe", description="How trials after the random ones are chosen."
    )
    n_ei_candidates: int = Field(
        default=128, ge=1, description="Number of draws that TPE picks the best of for each trial."
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of the search.")
    study_checkpoint_dir: Folder = Field(default=Path("checkpoints"), description="Directory that holds the studies.")
    resume: Literal["continue", "restart"] | None = Field(
        default=None,
        description="What to do with a recorded study of the model (asked if not given).",
        examples=["continue"],
    )
    reproduce: Name = Field(
        default=None,
        description="Run again what this report, study, export or hub id records, and say whether the figures agree.",
        examples=["path/to/report.json"],
    )


class ExportSettings(Section):
    """Which trial is kept and how it is written."""

    model_config = ConfigDict(title="Choice and export")

    trial: Literal["knee", "lowest-kl", "lowest-refusals"] | Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Trial to take without asking: a rule or a trial's number.", examples=["knee"]
    )
    export: Literal[ExportName, "none"] | None = Field(
        default=None,
        description="Write the whole model (merge), a small adapter, for a GGUF file another one (gguf), or nothing "
        "(asked if not given).",
        examples=["merge"],
    )
    gguf_type: Literal["same", "Q8_0", "F16"] = Field(
        default="same",
        description="Type of the edited tensors of a GGUF file: their own, or one that loses less and takes more room.",
    )
    output: Annotated[Path | None, EmptyIsNone, Metavar("DIR")] = Field(
        default=None, description="Directory to write to.", examples=["path/to/edited-model"]
    )
    max_shard_size: Size = Field(default="5GB", description="Largest size of a file of weights.")
    upload: Name = Field(
        default=None,
        description="Repository of the Hugging Face hub to upload what was written to, new or existing.",
        examples=["OWNER/NAME"],
    )
    upload_public: bool = Field(
        default=False, description="Make a new repository public (one that exists stays as it is)."
    )


SECTIONS: tuple[type[Section], ...] = (
    ModelSettings,
    PromptSettings,
    DirectionSettings,
    EvaluationSettings,
    OverRefusalSettings,
    SearchSettings,
    MeasuringSettings,
    ExportSettings,
    ReportSettings,
)
