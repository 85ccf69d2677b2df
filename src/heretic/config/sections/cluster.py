"""[Cluster] Several GPUs, several machines, several runs on one study."""

from pydantic import ConfigDict, Field

from ..types import Name
from .base import Section


class ClusterSettings(Section):
    """Where the models of a search run, if not in this process, and how many candidates are open at once."""

    model_config = ConfigDict(title="Cluster")

    ray: bool | None = Field(
        default=None,
        description="Measure candidates by Ray actors, each with a copy of the model. By default where this machine "
        "has several GPUs that each hold the model, and where ray_address is given.",
        examples=[True],
    )
    ray_address: Name = Field(
        default=None,
        description="Ray cluster to join: auto for one that runs on this machine, or HOST:PORT. Without it, Ray is "
        "started here for this run (or RAY_ADDRESS is joined).",
        examples=["auto"],
    )
    gpus_per_model: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="GPUs of one actor: a fraction where a GPU holds several copies of the model, more than 1 where a "
        "model needs several.",
    )
    threads_per_model: int = Field(
        default=1,
        ge=1,
        description="CPU threads of one actor, on machines without GPUs: each holds a copy of the model.",
    )
    max_actors: int = Field(
        default=0, ge=0, description="Largest number of actors; 0 takes as many as the cluster has room for."
    )
    open_candidates: int = Field(
        default=0,
        ge=0,
        description="Candidates that are requested before their results are known; 0 keeps everything busy. The same "
        "seed and the same number give the same study on one actor or many.",
    )
    storage: Name = Field(
        default=None,
        description="Storage that several runs share one study in: a database (postgresql://USER:PASSWORD@HOST/NAME, "
        "mysql://...) or a file ending in .journal on a shared disk. Put an address with a password into "
        "HERETIC_STORAGE: it is shown and recorded nowhere.",
        examples=["postgresql://me@host/heretic"],
    )
