"""What the sampler suggests and a trial stores: numbers only."""

from typing import Literal

from pydantic import Field

from ...parameters import AblationParameters


class ObliqueParameters(AblationParameters):
    """One candidate.

    `shrink` is what is added to the second moment, as a share of its mean diagonal. `answer_share` is the weight of the
    first answer tokens in the mean difference; the last prompt tokens have the rest.
    """

    method: Literal["oblique"] = "oblique"
    shrink: float = Field(gt=0)
    answer_share: float = Field(ge=0, le=1)

    def facts(self) -> dict[str, str]:
        return {"Shrink": f"{self.shrink:.3f}", "Answer share": f"{self.answer_share:.2f}"}

    def brief(self) -> str:
        return f"shrink {self.shrink:.2f}, answers {self.answer_share:.2f}"
