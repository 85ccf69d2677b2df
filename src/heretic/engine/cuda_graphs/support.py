"""The models whose decode steps may be captured."""

from ...ablation.sites import ExpertSite, FusedExpertsSite
from ...model.kernels.decode_attention import GPU_NAME as MASKED_ATTENTION
from ...model.kernels.decode_attention import NAME as DECODE_ATTENTION
from ...model.loading.load import LoadedModel
from ..forward import Forward


def supports_cuda_graphs(loaded: LoadedModel, forward: Forward) -> bool:
    """Whether steps of this model may be captured; the runner's comparison decides whether the graphs are right."""
    attention = getattr(loaded.model.config, "_attn_implementation", None)
    return (
        forward.takes_positions
        and not forward.is_stateful
        # Others (flash) accept no additive mask.
        and attention in ("eager", "sdpa", DECODE_ATTENTION, MASKED_ATTENTION)
        # A router's choices give tensors of other shapes at each step.
        and not any(isinstance(site, (ExpertSite, FusedExpertsSite)) for site in loaded.sites)
        and {parameter.device for parameter in loaded.model.parameters()} == {loaded.device}
    )
