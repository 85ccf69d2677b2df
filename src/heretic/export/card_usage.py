"""How an export is run, for its model card: the commands of the programs that people have."""

import re
import shlex
from collections.abc import Sequence

from .formats.base import ExportFormat
from .public_names import PublicModel

HERE = "path/to/this"
"""The export's directory, or its repository once it is uploaded."""


def usage(form: ExportFormat, files: Sequence[str], model: PublicModel) -> str:
    """The card's section about running the export, in Markdown."""
    if form.needs_base:
        parts = _adapter(model)
    elif any(name.endswith(".gguf") for name in files):
        parts = _gguf(files, model)
    else:
        parts = _checkpoint(files)
    return "\n\n".join(
        [f"## Using it\n\n`{HERE}` is this directory, or the repository that it was uploaded to.", *parts]
    )


def _checkpoint(files: Sequence[str]) -> list[str]:
    # Models with code of their own need a yes from whoever loads them.
    own = any(name.endswith(".py") for name in files)
    argument, flag = (", trust_remote_code=True", " --trust-remote-code") if own else ("", "")
    return [
        "With transformers:\n\n" + _python(argument),
        f"With vLLM:\n\n```sh\nvllm serve {HERE}{flag}\n```",
        "For llama.cpp, Ollama and LM Studio, export the same trial as a GGUF file "
        "(`heretic export --export gguf --gguf-type Q4_K_M`), or convert this directory with llama.cpp's "
        "`convert_hf_to_gguf.py` and `llama-quantize`.",
    ]


def _python(argument: str) -> str:
    return (
        "```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{HERE}"{argument})\n'
        f'model = AutoModelForCausalLM.from_pretrained("{HERE}", device_map="auto"{argument})\n'
        'messages = [{"role": "user", "content": "Hello!"}]\n'
        "inputs = tokenizer.apply_chat_template(\n"
        '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n'
        ").to(model.device)\n"
        "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=200)[0]))\n"
        "```"
    )


def _gguf(files: Sequence[str], model: PublicModel) -> list[str]:
    models = [name for name in files if name.endswith(".gguf") and "mmproj" not in name.lower()]
    # Of a split file the first part is named; the others are found next to it.
    first = models[0]
    projector = next((name for name in files if name.endswith(".gguf") and "mmproj" in name.lower()), None)
    images = f" --mmproj {shlex.quote(projector)}" if projector else ""
    base = model.name.rpartition("/")[2].removesuffix(".gguf").lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", base) + "-heretic"
    ollama = "Ollama reads whole files only: join the parts with llama.cpp's `llama-gguf-split --merge` first.\n\n"
    return [
        f"With llama.cpp, which then serves a page and an OpenAI-compatible interface:\n\n"
        f"```sh\nllama-server -m {shlex.quote(first)}{images}\n```",
        f"With Ollama, from a file `Modelfile` next to it:\n\n{ollama if len(models) > 1 else ''}"
        f"```text\nFROM ./{first}\n```\n\n```sh\nollama create {name} -f Modelfile\nollama run {name}\n```",
        f"With LM Studio:\n\n```sh\nlms import {shlex.quote(first)}\n```",
    ]


def _adapter(model: PublicModel) -> list[str]:
    base = model.repository or "path/to/base"
    return [
        "With transformers and PEFT:\n\n"
        "```python\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{base}", device_map="auto")\n'
        f'model = PeftModel.from_pretrained(model, "{HERE}")\n'
        "```",
        f"With vLLM, if `use_dora` in `adapter_config.json` is false (it runs no DoRA):\n\n"
        f"```sh\nvllm serve {base} --enable-lora --lora-modules heretic={HERE}\n```",
        "For other programs, merge it (`model.merge_and_unload()`, then `save_pretrained`), or export the same trial "
        "merged or as a GGUF file (`heretic export --export gguf`).",
    ]
