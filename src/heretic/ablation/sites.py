"""Sites: the weights that write to the residual stream, of three kinds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class PostNorm:
    """The module `name` between a site and the stream, which multiplies each feature by a gain (the post-norms of
    Gemma 2 and 3)."""

    name: str


@dataclass(frozen=True, slots=True)
class MeasuredGain:
    """Several operations between a site and the stream, which together multiply each feature by `gain`, (d_model,)
    fp32, up to one number for all. A record of a site has no tensor: `gain` is then None."""

    gain: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Site:
    """One matrix that writes to the residual stream.

    `module` is the module's name in the running model and `key` the name of its weight in the model's state dict.
    A `transposed` weight is stored (d_in, d_model), as in GPT-2's Conv1D. `downstream` is what its output meets before
    it is added to the stream: nothing (None), or something that multiplies each feature.
    """

    layer: int
    component: str
    module: str
    key: str
    transposed: bool = False
    downstream: PostNorm | MeasuredGain | None = None

    def plain(self) -> dict[str, Any]:
        """The site as JSON values, with `kind` and without a measured gain: tensors are stored elsewhere."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "downstream"}
        values["kind"] = next(name for name, kind in KINDS.items() if kind is type(self))
        values["post_norm"] = self.downstream.name if isinstance(self.downstream, PostNorm) else None
        values["measured_gain"] = isinstance(self.downstream, MeasuredGain)
        return values

    @staticmethod
    def from_plain(values: Mapping[str, Any]) -> "Site":
        """The site of a record, of its kind.

        Records without `kind` have all fields of all kinds, and name the layer itself as `post_norm` for a measured
        gain.
        """
        values = dict(values)
        name = values.pop("kind", None)
        kind = KINDS[_kind_of(values) if name is None else name]
        norm = values.pop("post_norm", None)
        measured = norm is not None and f"{values['module']}.".startswith(f"{norm}.")
        if values.pop("measured_gain", False) or measured:
            downstream: PostNorm | MeasuredGain | None = MeasuredGain()
        else:
            downstream = None if norm is None else PostNorm(norm)
        if name is None:
            values["n_experts"] = values.pop("experts", None)
            known = {each.name for each in fields(kind)}
            values = {key: value for key, value in values.items() if key in known}
        if values.get("chosen") is not None:
            values["chosen"] = tuple(values["chosen"])
        return kind(**values, downstream=downstream)


@dataclass(frozen=True, slots=True)
class ExpertSite(Site):
    """The matrix of expert number `expert`, a module of its own. `block` is the module around all experts that is given
    whole rows of a batch."""

    expert: int = field(kw_only=True)
    block: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class FusedExpertsSite(Site):
    """One parameter with the matrices of `n_experts` experts, (experts, d_model, d_in), which belongs to no linear
    module. `block` is the module around it that is given whole rows of a batch. Only the experts in `chosen` are
    edited (None: all)."""

    n_experts: int = field(kw_only=True)
    block: str = field(kw_only=True)
    chosen: tuple[int, ...] | None = field(default=None, kw_only=True)


KINDS: dict[str, type[Site]] = {"dense": Site, "expert": ExpertSite, "fused_experts": FusedExpertsSite}


def components_of(sites: Sequence[Site]) -> tuple[str, ...]:
    """The components of `sites`, in their order of appearance."""
    return tuple(dict.fromkeys(site.component for site in sites))


def _kind_of(values: Mapping[str, Any]) -> str:
    if values.get("expert") is not None:
        return "expert"
    return "dense" if values.get("experts") is None else "fused_experts"
