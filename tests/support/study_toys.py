"""A small space, a study's record, and metrics that follow from parameters: what a search needs without a model."""

from pathlib import Path
from typing import Any

from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.methods.kernel.space import KernelSpace
from heretic.ablation.parameters import AblationParameters, WeightKernel
from heretic.study.metrics import Metric
from heretic.study.sampler import SamplerName, SamplerOptions
from heretic.study.schema import BaselineRecord, PromptRecord, StudyRecord, TrialRecord
from heretic.study.study import Candidate, Study

SPACE = KernelSpace(("attn.o_proj", "mlp.down_proj"), 11)


def baseline(refusals: int = 80, prompts: int = 100, over: tuple[int, int] | None = None) -> BaselineRecord:
    """A baseline of two metrics, or of three with over-refusals (their number, and that of harmless prompts)."""
    third = {} if over is None else {"over_refusals": over[0], "over_prompts": over[1]}
    return BaselineRecord.model_validate({"refusals": refusals, "prompts": prompts, **third})


BASELINE = baseline()
GOLDEN = Path(__file__).parents[1] / "study" / "golden"


def record(**changes: Any) -> StudyRecord:
    prompts = {
        name: PromptRecord(source={"dataset": "packaged:refusal", "split": name}, count=count, digest=digest)
        for name, count, digest in (("good_prompts", 200, "aa"), ("bad_evaluation_prompts", 100, "bb"))
    }
    fields: dict[str, Any] = {
        "model": "org/model",
        "model_path": "/models/org/model",
        "gguf_file": None,
        "model_revision": "abc",
        "model_digest": "0123456789abcdef",
        "dtype": "bfloat16",
        "prompts": prompts,
        "settings": {"row_normalization": "full", "refusal_markers": ["sorry"], "winsorization_quantile": 0.95},
        "space": SPACE.describe(),
        "sites": [{"layer": 0, "component": "attn.o_proj"}],
        "response_prefix": "",
        "batch_size": 16,
        "baseline": BASELINE,
        "versions": {"optuna": "5.0.0"},
    }
    return StudyRecord(**fields | changes)


def values_of(parameters: AblationParameters) -> tuple[int, float]:
    """(refusals, KL divergence): stronger kernels near the end refuse less and change more."""
    kernels = parameters.kernels.values()
    strength = sum(kernel.max_weight * kernel.max_weight_position for kernel in kernels)
    spread = sum(kernel.min_weight * kernel.min_weight_distance for kernel in kernels)
    refusals = max(0, round(80 - 2 * strength - abs(parameters.direction_index - 7)))
    return refusals, 0.02 + (spread / 40) ** 2 + 0.001 * strength


def open_study(path: Path, sampler: SamplerName = "random", seed: int = 0, startup: int = 5) -> Study:
    """A study that is begun or resumed as a run does it."""
    study = Study(path, SPACE, SamplerOptions(sampler, seed, startup, 16))
    study.take_back_running()
    study.begin(record())
    return study


def measure(study: Study, candidate: Candidate) -> TrialRecord:
    refusals, kl = values_of(candidate.parameters)
    return study.tell(candidate, metrics(refusals, kl), (kl, refusals / BASELINE.value("refusals")))


def search(study: Study, count: int) -> list[TrialRecord]:
    return [measure(study, candidate) for _ in range(count) for candidate in study.ask(1)]


def metrics(refusals: int, kl_divergence: float, over: int | None = None, pruned: bool = False) -> dict[str, Metric]:
    third = {} if over is None else {"over_refusals": Metric(value=over)}
    return {
        "refusals": Metric(value=refusals, censored=pruned),
        "kl_divergence": Metric(value=kl_divergence),
        **third,
    }


def trial(
    number: int, refusals: int, kl_divergence: float, over: int | None = None, pruned: bool = False
) -> TrialRecord:
    kernel = WeightKernel(max_weight=1.0, max_weight_position=9.0, min_weight=0.5, min_weight_distance=3.0)
    parameters = KernelParameters(
        direction_scope="global", direction_index=7.0, kernels={"attn.o_proj": kernel, "mlp.down_proj": kernel}
    )
    measured = metrics(refusals, kl_divergence, over, pruned)
    return TrialRecord(number=number, parameters=parameters, metrics=measured)
