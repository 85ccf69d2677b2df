"""Where a layer writes to the residual stream."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Site:
    """One weight that writes to the residual stream.

    `module` is the module's name in the running model and `key` the name of its weight in the model's state dict.
    `transposed` weights are stored (d_in, d_model), as in GPT-2's Conv1D. `post_norm` names what stands between the
    module and the stream and acts on each feature alone (the post-norms of Gemma 2 and 3), or is None. Where it is the
    layer itself, several things do, and `gain` is what each feature is multiplied by, (d_model,) fp32, up to one number
    for all.

    A weight of `experts` matrices, (experts, d_model, d_in), holds the experts of a mixture. `expert` is the number of
    a module that is one expert of many. `block` is the module around the experts that sees whole rows of a batch.
    Only the experts in `chosen` are edited (None: all).
    """

    layer: int
    component: str
    module: str
    key: str
    transposed: bool = False
    post_norm: str | None = None
    experts: int | None = None
    expert: int | None = None
    block: str | None = None
    chosen: tuple[int, ...] | None = None
    gain: Tensor | None = field(default=None, compare=False, repr=False)

    def plain(self) -> dict[str, Any]:
        """All but the gain, for a record; tensors are kept elsewhere."""
        return {key: value for key, value in asdict(self).items() if key != "gain"}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Site":
        """The site of a record, in which a tuple is a list."""
        chosen = values.get("chosen")
        return cls(**dict(values, chosen=None if chosen is None else tuple(chosen)))


def components_of(sites: "list[Site] | tuple[Site, ...]") -> tuple[str, ...]:
    """The components of `sites`, in their order of appearance."""
    return tuple(dict.fromkeys(site.component for site in sites))
