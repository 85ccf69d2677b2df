"""What commands share: their study argument, settings from all sources, a reporter, and results printed as JSON."""

import argparse
import gc
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..config import EngineSettings, ExportSettings, ModelSettings, Settings, given_flags, load_settings
from ..errors import ConfigError
from ..files import expand_home
from .parser import Parser

if TYPE_CHECKING:
    from ..events import Reporter
    from ..study.reader import RecordedStudy

MODEL_HELP = "a directory, a hub id or a .gguf file"
ENGINE = tuple(key for key in EngineSettings.model_fields if key not in ("n_workers", "candidates_per_forward"))
LOADING = (
    *("trust_remote_code", "full_precision_model", "device_map", "max_memory"),
    *(key for key in ENGINE if key != "max_batch_size"),
)
"""Settings that load the model of a recorded study; its record holds the others, and measures no batch size."""

ACTORS = ("ray", "ray_address", "gpus_per_model", "threads_per_model", "max_actors")
"""Settings of work that actors can do on a recorded study's model."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Imports of what a command runs, without garbage collections.

    Imported modules stay, but every full collection would search them, also the one at the process's end: a third of
    the time of a short command.
    """
    collects, first = gc.isenabled(), "torch" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if first:
            # Only here: objects of a caller in this process must remain collectable.
            gc.freeze()
        if collects:
            gc.enable()


def user_path(text: str) -> Path:
    """A path as the user writes it; `~` is the home directory in flags and in configuration files alike."""
    return expand_home(text)


def add_study(parser: Parser) -> None:
    parser.add_argument("study", nargs="?", metavar="STUDY", help="a .jsonl file, its directory, or the model")
    parser.add_argument(
        "--study-checkpoint-dir",
        default="checkpoints",
        metavar="DIR",
        help="directory of the studies (default: checkpoints)",
    )


def add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def given_study(namespace: argparse.Namespace) -> "RecordedStudy":
    """The study that the arguments of `add_study` name."""
    from ..study.find import find_study

    name = namespace.study
    if name is not None and _holds_studies(user_path(name)):
        return find_study(None, user_path(name))
    return find_study(name, user_path(namespace.study_checkpoint_dir))


def _holds_studies(path: Path) -> bool:
    """Whether the path is a directory of studies, not that of a model."""
    return path.is_dir() and any(path.glob("*.jsonl")) and not (path / "config.json").exists()


def words_of(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [each.strip() for each in text.split(",") if each.strip()]


def print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=2))


def prepare(
    namespace: argparse.Namespace, first: dict[str, str] | None = None, model: str | None = None
) -> "tuple[Settings, Reporter]":
    """Settings from all their sources, and a reporter that has shown their warnings.

    `first` are flags that the given ones override; `model` is the positional argument MODEL.
    """
    flags: dict[str, str | bool] = {**(first or {}), **given_flags(namespace)}
    if model is not None:
        if "model" in flags:
            raise ConfigError("Expected one model, got two. Name it once: as MODEL or with --model.")
        flags["model"] = model
    config = getattr(namespace, "config", None)
    settings, warnings = load_settings(flags, Path(config) if config else None)
    reporter = make_reporter(sys.stderr, may_ask(settings, settings.resume))
    for warning in warnings:
        reporter.warn(warning)
    if not config:
        from ..session.config_file import settle_found_file

        settle_found_file(flags, reporter)
    _check_places(settings)
    return settings, reporter


def _check_places(settings: ModelSettings) -> None:
    """Checks what would be found out, or ignored, when a model is loaded.

    Raises:
        ModelError: `device_map` names no device of this machine.
        ConfigError: a revision is given for a model that has none.
    """
    if settings.device_map != "auto":
        from ..model.accelerator import check_device_map

        check_device_map(settings.device_map)
    local = settings.model is not None and expand_home(settings.model).exists()
    if settings.model_commit is not None and local:
        raise ConfigError(
            f"Expected a model of the hub for model_commit = {settings.model_commit}, but {settings.model} is a path "
            "here, which has no revisions. Leave model_commit out, or name the model by its hub id."
        )


def positive(text: str) -> int:
    """A whole number from 1 up, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, got {text!r}")
    return int(text)


def may_ask(export: ExportSettings, resume: str | None) -> bool:
    """Whether questions can be asked: on a terminal, unless a flag has answered them."""
    answers = (export.trial, export.export, export.output, resume, export.upload)
    return sys.stdin.isatty() and sys.stderr.isatty() and all(answer is None for answer in answers)


def make_reporter(stream: TextIO, asks: bool = False) -> "Reporter":
    """Progress bars on a terminal; plain lines elsewhere, with NO_COLOR, or on a terminal without cursor movement."""
    moves = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    if moves:
        from rich.console import Console

        from ..ui.live import LiveReporter

        return LiveReporter(Console(file=stream), asks)
    from ..ui.plain import PlainReporter

    return PlainReporter(stream, asks=asks)
