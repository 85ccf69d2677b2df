"""Names of components. They label sites after these were found by measuring; no site is found by a name."""

from torch import nn

# The first rule all of whose words are in the path of a site, or in the classes along it, names the component.
RULES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("shared", "expert"), "mlp.shared_experts.down_proj"),
    (("shared_mlp",), "mlp.shared_experts.down_proj"),
    (("attn", "expert"), "attn.experts.o_proj"),
    (("attention", "expert"), "attn.experts.o_proj"),
    (("post_expert",), "mlp.down_proj"),
    (("expert",), "mlp.experts.down_proj"),
    (("linear_attn",), "linear_attn.out_proj"),
    (("linearattention",), "linear_attn.out_proj"),
    (("lightningattention",), "linear_attn.out_proj"),
    (("deltanet",), "linear_attn.out_proj"),
    (("deltaattention",), "linear_attn.out_proj"),
    (("mamba",), "mamba.out_proj"),
    (("shortconv",), "conv.out_proj"),
    (("recurrent",), "recurrent.out_proj"),
    (("cross_attn",), "cross_attn.o_proj"),
    (("attn",), "attn.o_proj"),
    (("attention",), "attn.o_proj"),
    (("mlp",), "mlp.down_proj"),
    (("ffn",), "mlp.down_proj"),
    (("feed_forward",), "mlp.down_proj"),
    (("feedforward",), "mlp.down_proj"),
    (("fc2",), "mlp.down_proj"),
    (("dense_4h_to_h",), "mlp.down_proj"),
)


def component_label(path: str, classes: tuple[str, ...] = ()) -> str:
    """The usual name of a component, from a module's path in its layer and the classes of the modules along it; the
    path itself where no rule fits."""
    along = " ".join(classes).lower().replace("decoderlayer", "")
    text = f"{path.lower()} {along}"
    return next((label for words, label in RULES if all(word in text for word in words)), path)


def classes_along(layer: nn.Module, path: str) -> tuple[str, ...]:
    """Class names of the modules from below the layer to the module at `path`."""
    names = path.split(".")
    return tuple(type(layer.get_submodule(".".join(names[: i + 1]))).__name__ for i in range(len(names)))
