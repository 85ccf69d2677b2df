"""The mean of a path's tensors over its last steps (Polyak and Juditsky 1992).

Steps of a constant size move around the best tensors rather than to them; their mean lies closer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

COUNT = "count"


@dataclass
class TailAverage:
    """The mean over the steps of the current point and of those before it, at most `points` points in all (0: no mean).

    Tensors are `LearnedTensors`: `directions` (group, d_model, rank) and `strengths` (site, rank).
    """

    points: int
    _sums: list[dict[str, Tensor]] = field(default_factory=list)

    def begin(self) -> None:
        """Begins a point. One without steps, whose point was dropped, makes room for it."""
        taken = [sums for sums in self._sums if sums[COUNT]]
        self._sums = [*taken, {COUNT: torch.zeros(())}][-self.points :] if self.points else []

    @torch.no_grad()
    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Adds the tensors after a step of the current point."""
        if not self._sums:
            return
        sums = self._sums[-1]
        for name, each in {**tensors, COUNT: torch.ones(())}.items():
            sums[name] = sums[name] + each.detach() if name in sums else each.detach().clone()

    def mean(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mean, with directions of length 1; `tensors` themselves before the first step that counts."""
        taken = [sums for sums in self._sums if sums[COUNT]]
        if not taken:
            return {name: each.detach().clone() for name, each in tensors.items()}
        count = sum(float(sums[COUNT]) for sums in taken)
        means = {name: torch.stack([sums[name] for sums in taken]).sum(0) / count for name in tensors}
        return means | {"directions": normalize(means["directions"], dim=1)}

    def state(self) -> dict[str, Tensor]:
        """The sums, as `load` reads them."""
        return {f"{number}.{name}": each for number, sums in enumerate(self._sums) for name, each in sums.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        found: dict[int, dict[str, Tensor]] = {}
        for key, each in state.items():
            number, name = key.split(".", 1)
            found.setdefault(int(number), {})[name] = each.clone()
        self._sums = [found[number] for number in sorted(found)]
