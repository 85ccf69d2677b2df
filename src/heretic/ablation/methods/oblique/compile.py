"""From measurements to what is kept, and from there with a candidate's numbers to a site's edit."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ...edit import SiteEdit, of_chosen_experts
from ...sites import FusedExpertsSite, Site
from ..measurements import ANSWER, PROMPT, ModelMeasurements, capture_point
from ..tensors import StudyTensors
from .moments import PositionMeans, SecondMoment
from .parameters import ObliqueParameters
from .readers import SiteReaders, fit_readers


def fit(model: ModelMeasurements) -> dict[str, Tensor]:
    """Differences and readers of each place that a site's output is captured at, by its name."""
    good: dict[str, tuple[PositionMeans, SecondMoment]] = {}
    bad: dict[str, PositionMeans] = {}
    for written in model.site_outputs("good"):
        for name, output in written.items():
            means, second = good.setdefault(name, (PositionMeans(), SecondMoment()))
            means.update(output)
            second.update(output)
    for written in model.site_outputs("bad"):
        for name, output in written.items():
            bad.setdefault(name, PositionMeans()).update(output)
    kept: dict[str, Tensor] = {}
    # One after the other: only one site's second moment is held in fp64.
    for name in list(good):
        means, second = good.pop(name)
        differences = torch.stack([bad[name].mean(place) - means.mean(place) for place in (PROMPT, ANSWER)])
        readers = fit_readers(second.factor(), second.count, differences)
        kept |= {f"{name}.{key}": value for key, value in readers.tensors().items()}
    return kept


def compile_site(parameters: ObliqueParameters, site: Site, tensors: StudyTensors) -> SiteEdit | None:
    """left = w d, right = r, no scale; None where the strength is 0.

    Experts of a mixture all get the edit of their block's output: a linear map commutes with the router's sum.

    Raises:
        ValueError: the site's component has no kernel, or nothing was measured of the site.
    """
    if site.component not in parameters.kernels:
        raise ValueError(f"no kernel for {site.component}: the candidate has {sorted(parameters.kernels)}")
    strength = parameters.kernels[site.component].weight(site.layer)
    if strength == 0.0:
        return None
    readers = _readers(tensors.method, capture_point(site))
    left = strength * readers.difference(parameters.answer_share)[:, None]
    right = readers.reader(parameters.shrink, parameters.answer_share)[:, None]
    if isinstance(site, FusedExpertsSite):
        shape = (site.n_experts, *left.shape)
        return of_chosen_experts(SiteEdit(left.expand(shape), right.expand(shape)), site)
    return SiteEdit(left, right)


def _readers(kept: Mapping[str, Tensor], name: str) -> SiteReaders:
    try:
        return SiteReaders.from_tensors(kept, name)
    except KeyError as error:
        raise ValueError(f"nothing was measured of what {name} writes: the study is another method's") from error
