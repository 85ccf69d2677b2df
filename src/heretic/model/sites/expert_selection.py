"""Which experts of a mixture are edited."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...ablation.sites import ExpertSite, FusedExpertsSite, Site
from ...errors import ModelError

EVERY_LAYER = "*"


def with_chosen_experts(sites: Sequence[Site], chosen: Mapping[str, Sequence[int]] | None) -> tuple[Site, ...]:
    """`sites` with only some experts of each mixture edited.

    `chosen` maps the number of a layer, or "*" for all other layers, to numbers of experts; a mixture that neither
    names is not edited. None: all experts.

    Raises:
        ModelError: the model, or a named layer, has no experts, or fewer than named.
    """
    if chosen is None:
        return tuple(sites)
    counts = _expert_counts(sites)
    if not counts:
        raise ModelError(
            "Expected a mixture of experts, since the setting `experts` chooses some, but this model has none. Leave "
            "the setting out."
        )
    for layer, numbers in chosen.items():
        _check(layer, numbers, counts)
    kept: list[Site] = []
    for site in sites:
        numbers = tuple(sorted(set(chosen.get(str(site.layer), chosen.get(EVERY_LAYER, ())))))
        if isinstance(site, ExpertSite):
            kept += [site] if site.expert in numbers else []
        elif isinstance(site, FusedExpertsSite):
            kept += [replace(site, chosen=numbers)] if numbers else []
        else:
            kept.append(site)
    return tuple(kept)


def _expert_counts(sites: Sequence[Site]) -> dict[int, int]:
    """The number of experts by layer; of a layer with several mixtures, that of the smallest."""
    found: dict[tuple[int, str], int] = {}
    for site in sites:
        if isinstance(site, FusedExpertsSite):
            found[site.layer, site.module] = site.n_experts
        elif isinstance(site, ExpertSite):
            mixture = site.layer, site.block
            found[mixture] = max(found.get(mixture, 0), site.expert + 1)
    counts: dict[int, int] = {}
    for (layer, _), count in found.items():
        counts[layer] = min(counts.get(layer, count), count)
    return counts


def _check(layer: str, numbers: Sequence[int], counts: Mapping[int, int]) -> None:
    named = counts if layer == EVERY_LAYER else {n: count for n, count in counts.items() if n == int(layer)}
    if not named:
        raise ModelError(
            f"Expected a layer with experts, got layer {layer} in `experts`; those with experts are "
            f"{', '.join(map(str, counts))}."
        )
    fewest = min(named.values())
    wrong = [number for number in numbers if not 0 <= number < fewest]
    if wrong:
        where = "each layer" if layer == EVERY_LAYER else f"layer {layer}"
        raise ModelError(f"Expected experts from 0 to {fewest - 1} in {where}, got {wrong[0]} in `experts`.")
