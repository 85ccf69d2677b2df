"""Refuses flags about an export that this command would ignore. Keys of a configuration file may be for other runs."""

from collections.abc import Mapping

from ..config import ExportSettings
from ..errors import ConfigError


def check_export_flags(
    flags: Mapping[str, str | bool], export: ExportSettings, form: str | None, asks: bool = False
) -> None:
    """Checks the given flags of [Export] against the format `form` that is written, None for no export.

    Where the command `asks`, any format may still be chosen.

    Raises:
        ConfigError: a flag has no effect.
    """
    given = [key for key in ExportSettings.model_fields if key in flags and key not in ("trial", "export")]
    if asks or not given:
        return
    from ..export.formats.registry import FORMATS

    owners = {key: each.name for each in FORMATS for key in each.options}
    for key in given:
        flag, owner = f"--{key.replace('_', '-')}", owners.get(key)
        if form is None:
            wanted = f"--export {owner}" if owner else "--export or --output"
            # Without a format, `--output` and `--upload` ask for one; only `--export none` takes that back.
            needed = "leave --export none out" if export.export == "none" and owner is None else f"give {wanted} too"
            raise ConfigError(f"{flag} has no effect, since nothing is exported: {needed}, or leave {flag} out.")
        if owner is not None and owner != form:
            raise ConfigError(
                f"{flag} has no effect on the format {form}: give --export {owner}, whose option it is, or leave "
                f"{flag} out."
            )
        if key == "upload_public" and export.upload_public and export.upload is None:
            raise ConfigError("--public has no effect without --upload OWNER/NAME: give both, or neither.")
