"""A second import name of the package, whose modules are those of the first: never two copies.

heretic-llm installs a package `heretic` too, and whichever of the two is installed last replaces files of the other. An
installed wheel therefore has the code in `heretic_lab`, which nobody else has, and this file as `heretic`. In the
repository the code is in `src/heretic`, and this file is `heretic_lab`.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

ALIAS = __name__
REAL = {"heretic_lab": "heretic", "heretic": "heretic_lab"}[ALIAS]


class AliasFinder(MetaPathFinder, InspectLoader):
    """Finds modules of the second name as those of the first."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{ALIAS}."):
            return None
        real = find_spec(_real(fullname))
        if real is None:
            return None
        return ModuleSpec(fullname, self, origin=real.origin, is_package=real.submodule_search_locations is not None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(_real(spec.name))
        # importlib gives the module the spec of this import; exec_module puts its own back.
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state

    def get_code(self, fullname: str) -> CodeType | None:
        """For `python -m`."""
        spec = find_spec(_real(fullname))
        return spec.loader.get_code(_real(fullname)) if spec and isinstance(spec.loader, InspectLoader) else None

    def get_source(self, fullname: str) -> str | None:
        """For tracebacks of `python -m`."""
        spec = find_spec(_real(fullname))
        return spec.loader.get_source(_real(fullname)) if spec and isinstance(spec.loader, InspectLoader) else None


def _real(fullname: str) -> str:
    return REAL + fullname.removeprefix(ALIAS)


def _install() -> None:
    sys.meta_path.insert(0, AliasFinder())
    real: Any = import_module(REAL)
    sys.modules[ALIAS] = real
    # An import of heretic.search binds that name to the package; in the API it is a function. After this import, no
    # other one does so.
    import_module(f"{ALIAS}.search")
    vars(real).pop("search", None)


_install()
