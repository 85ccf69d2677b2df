"""A config.toml found in the working directory: it is reported, and grants no permission without consent."""

import os
from collections.abc import Mapping
from typing import Any

from ..config.found_file import found_file
from ..config.sources import PREFIX
from ..errors import ConfigError
from ..events import Reporter


def settle_found_file(flags: Mapping[str, Any], reporter: Reporter) -> None:
    """Reports the keys that the working directory's config.toml sets, and asks before it may grant a permission.

    Raises:
        ConfigError: it grants a permission, and the user did not consent.
    """
    variables = {name for name in os.environ if name.upper().startswith(PREFIX)}
    found = found_file({*variables, *flags})
    if found is None or not found.keys:
        return
    reporter.say(f"Settings from {found.path} of this directory: {', '.join(found.keys)}.")
    if not found.grants:
        return
    question = f"{found.path} lies in this directory and was not named with --config. It grants what is yours to give:"
    if not reporter.confirm(question, found.grants, "Allow it?"):
        raise ConfigError(
            f"{found.path} lies in this directory, was not named, and grants what is yours to give "
            f"({'; '.join(found.grants)}). Read it, then name it with --config {found.path}, or give these settings as "
            "flags."
        )
