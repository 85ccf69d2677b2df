"""Code that benchmarks share: the demo's model and prompts in an engine, candidates, limits, hypervolumes.

Import it before torch, since it sets OpenMP's wait policy.
"""

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch

from heretic.ablation.directions import find_directions
from heretic.ablation.edit import ModelEdit
from heretic.ablation.methods.kernel.compile import compile_edit
from heretic.ablation.methods.kernel.space import KernelSpace
from heretic.ablation.parameters import AblationParameters
from heretic.ablation.residuals import ResidualFitter, ResidualStats
from heretic.ablation.sites import components_of
from heretic.config import Settings, resolve_prompts
from heretic.engine.local import LocalEngine
from heretic.engine.options import DEFAULT, EngineOptions
from heretic.engine.protocol import no_progress
from heretic.evaluation.evaluator import Evaluation, Evaluator
from heretic.evaluation.scorers.registry import build_scorers
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.demo_model import demo_model
from heretic.model.loading.load import load_model
from heretic.prompts.loading import load_prompts
from heretic.prompts.prompt import Prompt
from heretic.study.sampler import SamplerOptions
from heretic.study.study import Study

NAMES = ("good_prompts", "bad_prompts", "good_evaluation_prompts", "bad_evaluation_prompts")
REFERENCE = (0.5, 1.0)
"""Reference point of the hypervolume: KL divergence in nats, and refusals as a share of the baseline's."""
SIDE = {"cuda": 8192}
"""Of the square matrices, by kind of device (others: 2048): smaller ones don't reach a GPU's rate."""


def demo_settings(**more: Any) -> Settings:
    """The settings of the demo that affect the metrics."""
    return Settings(**{"preset": "disclaimer", "system_prompt": "none"} | more)


def demo_prompts(settings: Settings) -> list[tuple[Prompt, ...]]:
    """Good and bad prompts for the directions, good and bad prompts for the search."""
    return [load_prompts(source).prompts for source in resolve_prompts(settings)]


def demo_engine(settings: Settings, rows: int, options: EngineOptions = DEFAULT) -> LocalEngine:
    """SmolLM2-135M-Instruct in an engine."""
    loaded = load_model(find_checkpoint(str(demo_model())), settings, lambda _: None)
    return LocalEngine(loaded, chat_format(loaded.tokenizer, settings.system_prompt, "SmolLM2"), rows, options)


def mean_residuals(engine: LocalEngine, prompts: Sequence[Prompt]) -> ResidualStats:
    fitter = ResidualFitter()
    for _, residuals in engine.residuals(tuple(prompts), no_progress):
        fitter.update(residuals)
    return fitter.fit()


class Bench:
    """The demo's model with its directions and its baseline. Evaluates any parameters fully."""

    def __init__(
        self, tokens: int, objective: str = "markers", prompts: int = 100, dtypes: Sequence[str] = ("auto",)
    ) -> None:
        settings = demo_settings(max_response_length=tokens, dtypes=list(dtypes), objective=objective)
        good_d, bad_d, good, bad = demo_prompts(settings)
        self.engine = demo_engine(settings, 64)
        self.directions = find_directions(mean_residuals(self.engine, good_d), mean_residuals(self.engine, bad_d))
        self.bad = bad
        self.stats = self.engine.weight_stats(self.directions, no_progress)
        self.space = KernelSpace(components_of(self.engine.sites), len(self.engine.loaded.layers) - 1)
        sets = {"good_evaluation_prompts": good[:prompts], "bad_evaluation_prompts": bad[:prompts]}
        self.evaluator = Evaluator(self.engine, build_scorers(settings, sets))
        self.baseline = self.evaluator.baseline()

    def edit(self, parameters: AblationParameters) -> ModelEdit:
        return compile_edit(parameters, self.directions, self.engine.sites, self.stats)

    def evaluate(self, parameters: AblationParameters) -> Evaluation:
        [evaluation] = self.evaluator.evaluate([self.edit(parameters)], self.baseline)
        assert isinstance(evaluation, Evaluation)
        return evaluation

    @property
    def baseline_refusals(self) -> float:
        return self.baseline["refusals"].value

    def random_parameters(self, count: int, seed: int) -> list[AblationParameters]:
        sampler = SamplerOptions("random", seed)
        with (
            tempfile.TemporaryDirectory() as directory,
            Study(Path(directory) / "s.jsonl", self.space, sampler) as study,
        ):
            return [candidate.parameters for candidate in study.ask(count)]


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float] = REFERENCE) -> float:
    """The share of the rectangle from 0 to `reference` that the points dominate."""
    area, lowest = 0.0, reference[1]
    for x, y in sorted(points):
        if x < reference[0] and y < lowest:
            area += (reference[0] - x) * (lowest - y)
            lowest = y
    return area / (reference[0] * reference[1])


def write_inputs(work: Path) -> Path:
    """The demo's model as safetensors and its prompts as text files, for other tools; returns the model's directory."""
    settings = demo_settings()
    for name, prompts in zip(NAMES, demo_prompts(settings), strict=True):
        (work / f"{name}.txt").write_text("".join(f"{prompt.text}\n" for prompt in prompts))
    directory = work / "SmolLM2"
    if not directory.exists():
        loaded = load_model(find_checkpoint(str(demo_model())), settings, lambda _: None)
        model = loaded.model
        model.hf_quantizer = None
        model.save_pretrained(directory)
        loaded.tokenizer.save_pretrained(directory)
        config = json.loads((directory / "config.json").read_text())
        config.pop("quantization_config", None)
        (directory / "config.json").write_text(json.dumps(config))
    return directory


def search_flags(model: Path, work: Path, study: Path, dtype: str, trials: int, method: str = "kernel") -> list[str]:
    """Flags of a search on the prompts in `work`, with nothing after it."""
    flags = [str(model), "--method", method, "--n-trials", str(trials), "--dtypes", dtype]
    flags += ["--system-prompt", "none", "--export", "none", "--heldout-trials", "0"]
    flags += ["--study-checkpoint-dir", str(study)]
    for name in NAMES:
        flags += [f"--{name.replace('_', '-')}", str(work / f"{name}.txt")]
    return flags


@dataclass(frozen=True)
class Limit:
    """The work of a decode step and the rates of the machine; `tokens` a second are the best that these allow."""

    operations: float
    moved: float
    matrix_rate: float
    bandwidth: float
    tokens: float

    def compared_with(self, reached: float) -> str:
        """A line that compares the `reached` tokens a second with the limit."""
        return (
            f"{self.operations / 1e9:.1f} GFLOP and {self.moved / 2**20:.0f} MiB a step, at "
            f"{self.matrix_rate / 1e9:.0f} GFLOP/s and {self.bandwidth / 2**30:.1f} GiB/s at most {self.tokens:.0f} "
            f"tokens/s; decoding reaches {reached:.0f}, {100 * reached / self.tokens:.0f} % of it"
        )


def limit_of(engine: LocalEngine, rows: int, positions: int) -> Limit:
    """The limit of decoding `rows` rows that attend to `positions` positions, at the machine's present rates."""
    operations, moved = _step_cost(engine, rows, positions)
    matrix, bandwidth = _machine_rates(engine.loaded.device, engine.loaded.dtype)
    return Limit(operations, moved, matrix, bandwidth, rows / max(operations / matrix, moved / bandwidth))


def _step_cost(engine: LocalEngine, rows: int, positions: int) -> tuple[float, float]:
    """(operations, bytes) of one decode step."""
    model = engine.loaded.model
    head = model.get_output_embeddings().weight  # type: ignore[operator]
    weights = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    numbers = sum(weight.numel() for weight in {id(w): w for w in [*weights, head]}.values())
    config = model.config  # type: ignore[union-attr]
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    queries = config.num_attention_heads * head_dim * len(engine.loaded.layers)
    cached = config.num_key_value_heads * head_dim * len(engine.loaded.layers) * 2
    size = engine.loaded.dtype.itemsize
    return 2 * rows * numbers + 4 * rows * positions * queries, size * (numbers + rows * positions * cached)


def _machine_rates(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """(operations a second of a matrix product, bytes a second of a copy, read and written)."""
    side = SIDE.get(device.type, 2048)
    a = torch.randn(side, side, device=device).to(dtype)
    source = torch.ones(1 << 26, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    operations = 2 * side**3 / _best_seconds(lambda: a @ a)
    return operations, 2 * source.nbytes / _best_seconds(lambda: target.copy_(source))


def _best_seconds(task, times: int = 5) -> float:  # type: ignore[no-untyped-def]
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        task()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def refusals_and_kl(evaluation: Evaluation) -> tuple[float, float]:
    """The two metrics of every search."""
    return evaluation.metrics["refusals"].value, evaluation.metrics["kl_divergence"].value
