"""The entry point: prepares the environment, finds the command, turns errors into messages and exit statuses."""

import logging
import os
import sys
from collections.abc import Callable, Sequence

from ..errors import UserError, system_paragraph
from ..installing import clash
from ..printable import one_line
from .registry import VERBS, module_of
from .signals import ending_signals, ignore_interrupts, status_of
from .streams import lasting_streams

__all__ = ["VERBS", "main"]

BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # A caller in this process gets its handlers back; else the process ends here, and nothing interrupts its end.
    with lasting_streams(), ending_signals(for_good=arguments is None):
        return status_of(_run(lambda: _command(given)))


def _command(given: list[str]) -> int:
    """Parses the arguments and runs their command."""
    _prepare_environment()
    if given[:1] == ["help"]:
        given = [*given[1:], "--help"]
    verb = given[0] if given and given[0] in VERBS else ""
    module = module_of(verb)
    if given and not verb and not given[0].startswith("-"):
        # Before the arguments: those of a misspelled command would be errors of their own.
        module.check_name(given[0])
    namespace = module.build_parser().parse_args(given[1:] if verb else given)
    if (line := clash()) is not None:
        print(f"Warning: {line}", file=sys.stderr)
    return int(module.run(namespace))


def _run(command: Callable[[], int]) -> int:
    """The command's exit status; an error of the user or of the machine is one paragraph."""
    try:
        return command()
    except UserError as error:
        print(one_line(f"heretic: {error}"), file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        paragraph = system_paragraph(error)
        if paragraph is None:
            raise
        print(one_line(f"heretic: {paragraph}"), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        ignore_interrupts()
        print("heretic: stopped.", file=sys.stderr)
        return INTERRUPTED


def _prepare_environment() -> None:
    """Sets variables that libraries read at import, unless the user has set them."""
    # Threads that spin while they wait lose a time slice to every other busy process: on a machine that does anything
    # else, a search on a CPU then takes twice as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # This program has its own progress bars, which those of libraries would disturb.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # It warns at import about kernels that only a 4-bit search on a CPU would use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
