"""A model loaded into an engine, with its chat format, batch size and response prefix."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..config import EngineSettings, EvaluationSettings
from ..config.changes import changed
from ..engine.decoding import end_tokens
from ..engine.generation_rules import GenerationRules
from ..engine.local import LocalEngine
from ..engine.options import EngineOptions
from ..engine.protocol import RuntimeProfile
from ..evaluation.evaluator import Evaluator
from ..evaluation.scorers.base import Show
from ..evaluation.scorers.registry import build_scorers
from ..events import Reporter
from ..model.accelerator import empty_cache
from ..model.chat.checks import check_prompts
from ..model.chat.format import chat_format
from ..model.kernels.packed_linear import unpack_weights
from ..model.loading.load import LoadedModel, load_model
from ..model.placement import META, placement_notes
from ..prompts.prompt import Prompt
from .autotune import tune_batch_size
from .context import ModelSession
from .prompts import RunPrompts
from .response_prefix import response_prefix, settle_thinking

Prepare = Callable[[LocalEngine, ModelSession], None]
"""Called with an engine that knows its batch size and has generated nothing."""


def open_engine(
    session: ModelSession, known: RuntimeProfile | None = None, prepare: Prepare | None = None
) -> LocalEngine:
    """The session's model in an engine, ready for its prompts; a `known` profile is not measured again.

    Raises:
        ModelError: the model can't be loaded, or is no chat model.
        PromptError: a prompt is longer than its context.
    """
    settings, reporter = session.settings, session.reporter
    if known is not None:
        settings = changed(settings, {"dtypes": [known.dtype]})
    with reporter.step(f"Loading {session.checkpoint.name}"):
        loaded = load_model(session.checkpoint, settings, reporter.say)
    reporter.say(_summary(loaded))
    for note in placement_notes(loaded.model):
        reporter.say(note)
    return wrap_engine(loaded, session, session.prompts.all(), known, prepare)


def wrap_engine(
    loaded: LoadedModel,
    session: ModelSession,
    prompts: Sequence[Prompt],
    known: RuntimeProfile | None = None,
    prepare: Prepare | None = None,
) -> LocalEngine:
    """A loaded model in an engine: chat format, batch size and response prefix are measured with `prompts`."""
    settings, reporter = session.settings, session.reporter
    arguments, date = settings.chat_template_arguments, settings.chat_template_date
    if known is not None:
        arguments, date = dict(known.template_arguments), known.template_date or date
    chat = chat_format(loaded.tokenizer, settings.system_prompt, loaded.checkpoint.name, arguments, date)
    closing = ""
    if known is None:
        chat, closing = settle_thinking(chat, settings, reporter)
    check_prompts(chat, prompts, settings.max_response_length, loaded.context_length, loaded.vocabulary)
    if chat.folds_system or any(chat.folds(prompt.system) for prompt in prompts):
        reporter.say("The chat template takes no system message: the system prompt goes before the user's text.")
    options = replace(engine_options(settings), rules=_rules(loaded, settings, reporter))
    engine = LocalEngine(loaded, chat, options=options, warn=reporter.warn)
    engine.set_batch_size(tune_batch_size(engine, session, tuple(prompts)) if known is None else known.batch_size)
    if known is None:
        reporter.say(f"Batch size: {engine.batch_size}")
    if prepare is not None:
        prepare(engine, session)
    if known is None:
        engine.set_prefix(response_prefix(engine, closing, settings, prompts, reporter))
    else:
        engine.set_prefix(known.response_prefix)
    return engine


def _rules(loaded: LoadedModel, settings: EvaluationSettings, reporter: Reporter) -> GenerationRules | None:
    """The model's generation rules, unless the settings turn them off; they are reported either way."""
    rules = GenerationRules.of(loaded.model, end_tokens(loaded.model, loaded.tokenizer))
    if rules is None:
        return None
    named = ", ".join(f"{key} = {value!r:.60}" for key, value in rules.values.items())
    if settings.generation_rules:
        reporter.say(f"Responses follow generation_config.json of {loaded.checkpoint.name}: {named}.")
        return rules
    reporter.warn(
        f"generation_config.json of {loaded.checkpoint.name} sets {named}. The model is measured without, since "
        "generation_rules is false: programs that follow it may show other responses and other refusals."
    )
    return None


def engine_options(settings: EngineSettings) -> EngineOptions:
    return EngineOptions(
        compact_batch=settings.compact_batch,
        share_prefix=settings.share_prefix,
        cache_lower_layers=settings.cache_lower_layers,
        fast_attention=settings.fast_attention,
        packed_weights=settings.packed_weights,
        gpu_kernels=settings.gpu_kernels,
        static_decode=settings.static_decode,
    )


def make_evaluator(
    engine: LocalEngine, settings: EvaluationSettings, prompts: RunPrompts, show: Show | None = None
) -> Evaluator:
    """The evaluator of a run: the scorers that its settings and prompts ask for, on one engine."""
    sets = {name: each.prompts for name, each in prompts.sets().items()}
    return Evaluator(engine, build_scorers(settings, sets), show)


def _summary(loaded: LoadedModel) -> str:
    model: Any = loaded.model
    billions = sum(parameter.numel() for parameter in model.parameters()) / 1e9
    sites: dict[str, int] = {}
    for site in loaded.sites:
        sites[site.component] = sites.get(site.component, 0) + 1
    found = ", ".join(f"{count} x {component}" for component, count in sites.items())
    dtype = str(loaded.dtype).removeprefix("torch.")
    away = sum(parameter.numel() for parameter in model.parameters() if parameter.device == META) / 1e9
    offloaded = f", {away / billions:.0%} of them offloaded" if away else ""
    return f"{type(model).__name__}, {billions:.2f}B parameters{offloaded}, {dtype} on {loaded.device}; sites: {found}"


def release(engine: LocalEngine) -> None:
    """Frees a model's memory, even if something still refers to the model."""
    unpack_weights(engine.loaded.model)
    for parameter in engine.loaded.model.parameters():
        if parameter.device == META:
            continue
        # Plain weights could be moved to the meta device, but 4-bit ones can't.
        parameter.data = torch.empty(0, dtype=parameter.dtype)
    empty_cache()
