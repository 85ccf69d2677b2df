"""Takes a planted model with each template of tests/support/chat_templates.py through the whole job.

    python tools/template_shapes.py [PART_OF_A_NAME ...]

Search with one trial, export, chat, evaluation of the export and a benchmark run as from the command line. Each must
read the prompt that the shape states; one line for each shape says which did not.
"""

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.chat_templates import SHAPES
from tests.support.shaped_models import whole_job


def main(parts: Sequence[str]) -> None:
    names = [name for name in SHAPES if not parts or any(part in name for part in parts)]
    wrong = 0
    for name in names:
        start = time.perf_counter()
        said = io.StringIO()
        with (
            tempfile.TemporaryDirectory() as directory,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            faults = whole_job(Path(directory), SHAPES[name])
        wrong += bool(faults)
        verdict = "; ".join(faults) or "as stated"
        print(f"{name:36} {time.perf_counter() - start:5.0f} s  {verdict}", flush=True)
    print(f"{len(names)} shapes, {wrong} not as stated")


if __name__ == "__main__":
    main(sys.argv[1:])
