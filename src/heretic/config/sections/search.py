"""[Search] The study: trials, sampler, budget and where it is kept."""

from pathlib import Path

from pydantic import ConfigDict, Field

from ..types import Duration, Folder, Name, Resume, Sampler
from .base import Section


class SearchSettings(Section):
    """How candidates are proposed and where the study is kept."""

    model_config = ConfigDict(title="Search")

    n_trials: int = Field(
        default=200,
        ge=1,
        description="Trials of the study. With a sampler, more find better trade-offs, and 40 give a first impression. "
        "Learned edits are eight a path: with the default it is one path, another number is taken as it is.",
    )
    n_startup_trials: int = Field(
        default=60,
        ge=0,
        description="Trials at the start that are random or of the literature, before the sampler learns from results.",
    )
    literature_trials: bool = Field(
        default=True,
        description="Begin with the ablations of the literature: all sites at full strength, along a few directions.",
    )
    warm_start: Name = Field(
        default=None,
        description="Begin with the Pareto front of an earlier study: its .jsonl file or the name of its model.",
        examples=["checkpoints/Qwen--Qwen3-4B.jsonl"],
    )
    time_budget: Duration = Field(
        default=None,
        description="Stop the search in time for the held-out evaluation to end after this time (90s, 30m, 1h30m), as "
        "far as that can be estimated. Trials that run are finished first.",
        examples=["1h30m"],
    )
    sampler: Sampler = Field(
        default="tpe",
        description="Sampler after the startup trials: TPE with independent parameters (tpe), with joint parameters "
        "(tpe-multivariate), or random search (random).",
    )
    n_ei_candidates: int = Field(
        default=128,
        ge=1,
        description="Draws from which TPE picks the one with the highest expected improvement, per trial.",
    )
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="Random seed of the search. The same seed gives the same study."
    )
    prune_dominated: bool = Field(
        default=True,
        description="Stop evaluating a candidate once its refusals show that it can't enter the Pareto front.",
    )
    order_startup_trials: bool = Field(
        default=True,
        description="Evaluate the startup trials first that look best in a preview of a few tokens. Pruning then saves "
        "more time.",
    )
    study_checkpoint_dir: Folder = Field(default=Path("checkpoints"), description="Directory of the studies.")
    resume: Resume | None = Field(
        default=None,
        description="What to do when the model has a study already: continue it, or restart and keep the old one "
        "next to the new. Asked by default, and continued without a terminal.",
        examples=["continue"],
    )
    reproduce: Name = Field(
        default=None,
        description="Repeat what this report, study, export or hub id records, and compare the metrics.",
        examples=["path/to/report.json"],
    )
