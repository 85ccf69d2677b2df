"""Which experts of a mixture are edited."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...ablation.sites import Site
from ...errors import ModelError

EVERY_LAYER = "*"


def with_chosen_experts(sites: Sequence[Site], chosen: Mapping[str, Sequence[int]] | None) -> tuple[Site, ...]:
    """The sites of a model of whose mixtures only some experts are edited; all other sites as they are.

    `chosen` maps the number of a layer, or "*" for every further layer, to numbers of experts; a mixture that neither
    names is left alone. None: all experts.

    Raises:
        ModelError: the model has no experts, or not in that layer, or not so many.
    """
    if chosen is None:
        return tuple(sites)
    counts = _counts(sites)
    if not counts:
        raise ModelError(
            "Expected a mixture of experts, since experts to edit are chosen; no weight of this model's is one expert "
            "of many. Leave the setting `experts` out."
        )
    for layer, numbers in chosen.items():
        _check(layer, numbers, counts)
    kept = []
    for site in sites:
        numbers = tuple(sorted(set(chosen.get(str(site.layer), chosen.get(EVERY_LAYER, ())))))
        if site.expert is not None:
            kept += [site] if site.expert in numbers else []
        elif site.experts is not None:
            kept += [replace(site, chosen=numbers)] if numbers else []
        else:
            kept.append(site)
    return tuple(kept)


def _counts(sites: Sequence[Site]) -> dict[int, int]:
    """The number of experts by layer, the fewest of a layer with several mixtures."""
    found: dict[tuple[int, str], int] = {}
    for site in sites:
        if site.experts is not None:
            found[site.layer, site.module] = site.experts
        elif site.expert is not None:
            block = site.layer, site.block or ""
            found[block] = max(found.get(block, 0), site.expert + 1)
    counts: dict[int, int] = {}
    for (layer, _), count in found.items():
        counts[layer] = min(counts.get(layer, count), count)
    return counts


def _check(layer: str, numbers: Sequence[int], counts: Mapping[int, int]) -> None:
    concerned = counts if layer == EVERY_LAYER else {n: count for n, count in counts.items() if n == int(layer)}
    if not concerned:
        raise ModelError(
            f"Expected a layer with experts, got layer {layer} in `experts`; those with experts are "
            f"{', '.join(map(str, counts))}."
        )
    fewest = min(concerned.values())
    wrong = [number for number in numbers if not 0 <= number < fewest]
    if wrong:
        where = "each layer" if layer == EVERY_LAYER else f"layer {layer}"
        raise ModelError(f"Expected experts from 0 to {fewest - 1} in {where}, got {wrong[0]} in `experts`.")
