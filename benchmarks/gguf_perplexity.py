"""Perplexity in llama.cpp of edited SmolLM2-135M-Instruct by type of the GGUF file, ours and llama-quantize's.

`python benchmarks/gguf_perplexity.py [--libllama PATH] [--types Q8_0 Q4_K_M] [--tokens 1024]`

The edit removes a random direction from all sites. For each type the edited model is written by `--export gguf`; and
with `--libllama` (libllama.so of the npm package @node-llama-cpp/linux-x64, or of any build), the F32 file of the same
edited weights is quantised by llama.cpp's own `llama_model_quantize`. `kept` is a file of that type, made from the
unedited model and edited afterwards, as with a user's quantised file. The text is the packaged prompts.
"""

import argparse
import ctypes
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import demo_prompts, demo_settings

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from llama_cpp_runner import SILENT, LlamaCpp, Parameters

from heretic.ablation.directions import Directions
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.methods.tensors import StudyTensors
from heretic.ablation.parameters import WeightKernel
from heretic.export.edits import edit_from
from heretic.export.formats.base import EditOf
from heretic.export.formats.gguf import write_gguf
from heretic.export.ggml.converted_file import ConvertedFile
from heretic.export.ggml.file_types import FILE_TYPES
from heretic.export.matching import match_sites
from heretic.export.readers.base import open_checkpoint
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.demo_model import demo_model
from heretic.model.loading.load import LoadedModel, load_model

TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M")


def edit_for(loaded: LoadedModel) -> EditOf:
    """Removes a random direction a layer, fully, from every site."""
    config = loaded.model.config
    noise = torch.randn(config.num_hidden_layers + 1, config.hidden_size, generator=torch.Generator().manual_seed(1))
    directions = Directions(torch.nn.functional.normalize(noise, dim=-1))
    layers = config.num_hidden_layers
    kernel = WeightKernel(max_weight=1.0, max_weight_position=layers / 2, min_weight=1.0, min_weight_distance=layers)
    kernels = {site.component: kernel for site in loaded.sites}
    parameters = KernelParameters(direction_scope="per layer", direction_index=1.0, kernels=kernels)
    return edit_from(parameters, StudyTensors(directions, {}), "full")


def convert(base: Path, output: Path, kind: str, loaded: LoadedModel, edit_of: EditOf | None) -> Path:
    """The GGUF file of a type of the checkpoint in `base`, with an edit."""
    reader = open_checkpoint(base)
    owners = match_sites(loaded.sites, reader.tensors(), reader.directory)
    edit = edit_of or (lambda *_: None)
    output.parent.mkdir(parents=True, exist_ok=True)
    ConvertedFile(reader, loaded.model.config, loaded.tokenizer, owners, edit, kind).write(output, lambda _: None)
    return output


def quantise_elsewhere(libllama: Path, source: Path, output: Path, kind: str) -> Path:
    """`source` as llama.cpp's own quantiser writes it."""
    for name in ("libggml-base*.so*", "libggml-cpu-x64*.so*", "libggml.*so*"):
        for path in sorted(libllama.parent.glob(name))[:1]:
            ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(libllama))
    library.llama_log_set(SILENT, None)
    library.llama_model_quantize_default_params.restype = Parameters
    library.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Parameters)]
    parameters = library.llama_model_quantize_default_params()
    # The first fields: number of threads, type of the file.
    parameters.content[:2] = (torch.get_num_threads(), int(FILE_TYPES[kind].number))
    assert library.llama_model_quantize(str(source).encode(), str(output).encode(), ctypes.byref(parameters)) == 0
    return output


def perplexity(path: Path, text: str, tokens: int) -> float:
    """exp of the mean negative log-likelihood of a token, in windows of 512."""
    runner = LlamaCpp(path)
    ids = runner.tokens(text)[:tokens]
    total, count = 0.0, 0
    for start in range(0, len(ids), 512):
        window = ids[start : start + 512]
        logits = torch.from_numpy(runner.logits(window))[:-1].double()
        likelihood = logits.log_softmax(dim=-1).gather(1, torch.tensor(window[1:])[:, None])
        total, count = total - float(likelihood.sum()), count + len(window) - 1
    runner.close()
    return float(np.exp(total / count))


def measure(options: Any, folder: Path) -> None:
    """Prints a line for each type."""
    settings = demo_settings(dtypes=["float32"])
    text = "\n".join(prompt.text for prompts in demo_prompts(settings) for prompt in prompts)
    loaded = load_model(find_checkpoint(str(demo_model())), settings, lambda _: None)
    edit_of = edit_for(loaded)
    base = folder / "base"
    loaded.model.save_pretrained(base)
    plain = perplexity(convert(base, folder / "plain.gguf", "F32", loaded, None), text, options.tokens)
    edited = convert(base, folder / "edited.gguf", "F32", loaded, edit_of)
    print(f"F32: {plain:.3f} before the edit, {perplexity(edited, text, options.tokens):.3f} after it\n")
    print(f"{'type':<8} {'ours':>9} {'theirs':>9} {'difference':>11} {'kept':>9}")
    for kind in options.types:
        ours = perplexity(convert(base, folder / "ours.gguf", kind, loaded, edit_of), text, options.tokens)
        theirs = float("nan")
        if options.libllama is not None:
            path = quantise_elsewhere(options.libllama, edited, folder / "theirs.gguf", kind)
            theirs = perplexity(path, text, options.tokens)
        quantised = convert(base, folder / kind / "model.gguf", kind, loaded, None)
        write_gguf(open_checkpoint(quantised.parent, quantised.name), folder / f"{kind}-out", loaded.sites, edit_of)
        kept = perplexity(folder / f"{kind}-out" / "model-heretic.gguf", text, options.tokens)
        print(f"{kind:<8} {ours:>9.3f} {theirs:>9.3f} {100 * (ours / theirs - 1):>+10.2f}% {kept:>9.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libllama", type=Path)
    parser.add_argument("--types", nargs="+", default=list(TYPES), choices=list(FILE_TYPES))
    parser.add_argument("--tokens", type=int, default=1024)
    with tempfile.TemporaryDirectory() as folder:
        measure(parser.parse_args(), Path(folder))


if __name__ == "__main__":
    main()
