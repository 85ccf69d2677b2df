"""Removes refusals, or another behaviour, from a language model, and measures what that costs.

From Python: `search` runs the whole job, `open_study` reads a recorded study; both return a `Study`. Mistakes that the
caller can correct raise `heretic.errors.UserError`.

An installed wheel has this package as `heretic_lab` and as `heretic`: see src/heretic_lab/__init__.py.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Study, open_study, search

__version__ = "0.1.0"
__all__ = ["Study", "__version__", "open_study", "search"]


# The first import of the package heretic.search binds its name here, where `search` is the function. It is imported now
# (it is empty), so that no later import does so.
import_module(f"{__name__}.search")
del globals()["search"]


def __getattr__(name: str) -> Any:
    # `heretic --help` imports this package too, and must stay quick.
    if name in ("Study", "open_study", "search"):
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
