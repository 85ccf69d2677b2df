"""Where a layer writes to the residual stream."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Site:
    """One weight that writes to the residual stream.

    `module` is the module's name in the running model and `key` the name of its weight in the model's state dict.
    `transposed` weights are stored (d_in, d_model), as in GPT-2's Conv1D. `post_norm` names the norm that stands
    between the module and the stream (Gemma 2 and 3), or is None.
    """

    layer: int
    component: str
    module: str
    key: str
    transposed: bool = False
    post_norm: str | None = None


def components_of(sites: "list[Site] | tuple[Site, ...]") -> tuple[str, ...]:
    """The components of `sites`, in their order of appearance."""
    return tuple(dict.fromkeys(site.component for site in sites))
