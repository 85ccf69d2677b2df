"""Chat templates in the shapes of families of models, short, each with the prompt that it must give.

`S` and `U` stand for the system prompt and the user's text. The prompts are stated by hand: nothing here renders.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A template and what the model must read: `both` with a system prompt, `alone` without one.

    `closing` is the response prefix that closes the thought, `arguments` what the template is given.
    """

    template: str
    both: str
    alone: str
    closing: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    note: str = "as it is"


FOLDED = "the system prompt goes before the user's text"
PARTS = "contents are given as parts"
CLOSED = "the rest of the template's prompt without thinking closes the thought"
SWITCHED = "the template is given its switch"
OFF = "the template closes the thought itself"
DATED = "the date is that of the study's beginning"


def turns(turn: str, asking: str = "", before: str = "", role: str = "{{ m.role }}") -> str:
    """A template that prints each message as `turn`, `ROLE` and `TEXT` in it replaced."""
    text = turn.replace("ROLE", role).replace("TEXT", "{{ m.content }}")
    loop = "{% for m in messages %}" + text + "{% endfor %}"
    return before + loop + ("{% if add_generation_prompt %}" + asking + "{% endif %}" if asking else "")


CHATML = "<|im_start|>ROLE\nTEXT<|im_end|>\n"
START = "<|im_start|>assistant\n"
CHAT_BOTH = f"<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n{START}"
CHAT_ALONE = f"<|im_start|>user\nU<|im_end|>\n{START}"
NO_ROLE = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
IS_OFF = "enable_thinking is defined and enable_thinking is false"
NO_SYSTEM_ROLE = "{% if m.role == 'system' %}{{ raise_exception('Only user and assistant roles') }}{% endif %}"
EACH_PART = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"


def chatml(asking: str = "", before: str = "") -> str:
    return turns(CHATML, START + asking, before)


def switched(name: str, off: str, on: str = "", default_on: bool = True) -> str:
    """The text after the assistant's role with thinking off and on."""
    condition = f"{name} is defined and not {name}" if default_on else f"not ({name} is defined and {name})"
    return "{% if " + condition + " %}" + off + "{% else %}" + on + "{% endif %}"


def plain(template: str, both: str, alone: str, **more: Any) -> Shape:
    return Shape(template, both, alone, **more)


def like_chatml(behind: str = "", closing: str = "", **more: Any) -> Shape:
    """A shape of ChatML with this text after the assistant's role."""
    template = more.pop("template")
    return Shape(template, CHAT_BOTH + behind + closing, CHAT_ALONE + behind + closing, closing, **more)


ROLES_OF_LLAMA3 = "<|start_header_id|>ROLE<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
LLAMA3_ASK = "<|start_header_id|>assistant<|end_header_id|>\n\n"
LLAMA3_USER = f"<|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>{LLAMA3_ASK}"
GEMMA = "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
GEMMA_ASK = "<start_of_turn>model\n"
HARMONY = "<|start|>ROLE<|message|>TEXT<|end|>"

SHAPES: dict[str, Shape] = {
    "ChatML": like_chatml(template=chatml()),
    "ChatML that trims": like_chatml(template=chatml().replace("m.content", "m.content | trim")),
    "ChatML with a default system message": Shape(
        chatml(before="{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"),
        CHAT_BOTH,
        f"<|im_start|>system\nBe kind.<|im_end|>\n{CHAT_ALONE}",
    ),
    "Llama 3": Shape(
        "<|begin|>" + turns(ROLES_OF_LLAMA3, LLAMA3_ASK),
        f"<|begin|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>{LLAMA3_USER}",
        f"<|begin|>{LLAMA3_USER}",
    ),
    "Llama 3.2, dated": Shape(
        "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set rest = messages[1:] %}"
        "{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}"
        "<|system|>Today: {{ strftime_now('%d %b %Y') }}\n{{ s }}<|eot|>"
        "{% for m in rest %}<|{{ m.role }}|>{{ m.content }}<|eot|>{% endfor %}<|assistant|>",
        "<|system|>Today: 31 Jan 2026\nS<|eot|><|user|>U<|eot|><|assistant|>",
        "<|system|>Today: 31 Jan 2026\n<|eot|><|user|>U<|eot|><|assistant|>",
        note=DATED,
    ),
    "Llama 2": Shape(
        "{% if messages[0].role == 'system' %}{% set s = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{% if m.role == 'user' %}[INST] {{ (s if loop.first else '') + m.content }} [/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
        "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST]",
        "[INST] U [/INST]",
    ),
    "Mistral 7B v0.1": Shape(
        "{% for m in messages %}" + NO_SYSTEM_ROLE + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
        "[INST] S\n\nU [/INST]",
        "[INST] U [/INST]",
        note=FOLDED,
    ),
    "Mistral Small 3, dated": Shape(
        "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set rest = messages[1:] %}{% else %}"
        "{% set s = 'Today is ' + strftime_now('%Y-%m-%d') + '.' %}{% set rest = messages %}{% endif %}"
        "[SYSTEM]{{ s }}[/SYSTEM]{% for m in rest %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}",
        "[SYSTEM]S[/SYSTEM][INST]U[/INST]",
        "[SYSTEM]Today is 2026-01-31.[/SYSTEM][INST]U[/INST]",
        note=DATED,
    ),
    "Gemma 2": Shape(
        NO_ROLE + turns(GEMMA, GEMMA_ASK),
        f"<start_of_turn>user\nS\n\nU<end_of_turn>\n{GEMMA_ASK}",
        f"<start_of_turn>user\nU<end_of_turn>\n{GEMMA_ASK}",
        note=FOLDED,
    ),
    "Gemma 3": Shape(
        "{% set s = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}"
        "{% for m in messages if m.role != 'system' %}<start_of_turn>"
        "{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ s if loop.first else '' }}{{ m.content }}<end_of_turn>\n{% endfor %}<start_of_turn>model{{ '\n' }}",
        f"<start_of_turn>user\nS\n\nU<end_of_turn>\n{GEMMA_ASK}",
        f"<start_of_turn>user\nU<end_of_turn>\n{GEMMA_ASK}",
    ),
    "Gemma 4": Shape(
        turns(
            "<|turn>ROLE\n{{ m.content | trim }}<turn|>\n",
            "<|turn>model\n{% if not enable_thinking %}<|channel>thought\n<channel|>{% endif %}",
        ),
        "<|turn>system\nS<turn|>\n<|turn>user\nU<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
        "<|turn>user\nU<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
        note=OFF,
    ),
    "Phi 3": Shape(
        turns("<|ROLE|>\nTEXT<|end|>\n", "<|assistant|>\n"),
        "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n",
        "<|user|>\nU<|end|>\n<|assistant|>\n",
    ),
    "Phi 4": Shape(
        turns("<|im_start|>ROLE<|im_sep|>TEXT<|im_end|>", "<|im_start|>assistant<|im_sep|>"),
        "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>U<|im_end|><|im_start|>assistant<|im_sep|>",
        "<|im_start|>user<|im_sep|>U<|im_end|><|im_start|>assistant<|im_sep|>",
    ),
    "Zephyr": Shape(
        turns("<|ROLE|>\nTEXT</s>\n", "<|assistant|>\n"),
        "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\n",
        "<|user|>\nU</s>\n<|assistant|>\n",
    ),
    "Vicuna": Shape(
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }} {% elif m.role == 'user' %}USER: "
        "{{ m.content }} {% else %}ASSISTANT: {{ m.content }}</s>{% endif %}{% endfor %}ASSISTANT:",
        "S USER: U ASSISTANT:",
        "USER: U ASSISTANT:",
    ),
    "Alpaca": Shape(
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}"
        "### Instruction:\n{{ m.content }}\n\n{% else %}### Response:\n{{ m.content }}\n\n{% endif %}{% endfor %}"
        "### Response:{{ '\n' }}",
        "S\n\n### Instruction:\nU\n\n### Response:\n",
        "### Instruction:\nU\n\n### Response:\n",
    ),
    "Falcon, without the role": Shape(
        "{% for m in messages if m.role != 'system' %}{{ 'User' if m.role == 'user' else 'Assistant' }}: "
        "{{ m.content.replace('\\n\\n', '\\n') }}\n{% endfor %}Assistant:",
        "User: S\nU\nAssistant:",
        "User: U\nAssistant:",
        note=FOLDED,
    ),
    "ChatGLM": Shape(
        "{% for m in messages if m.role == 'user' %}[Round {{ loop.index }}]\n\nQ: {{ m.content }}\n\nA:{% endfor %}",
        "[Round 1]\n\nQ: S\n\nU\n\nA:",
        "[Round 1]\n\nQ: U\n\nA:",
        note=FOLDED,
    ),
    "DeepSeek V2": Shape(
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}User: "
        "{{ m.content }}\n\n{% else %}Assistant: {{ m.content }}</s>{% endif %}{% endfor %}Assistant:",
        "S\n\nUser: U\n\nAssistant:",
        "User: U\n\nAssistant:",
    ),
    "DeepSeek R1": like_chatml(
        "<think>\n", "</think>", template=chatml("<think>\n"), note="the list closes the thought"
    ),
    "DeepSeek V3.1": like_chatml(
        "</think>", template=chatml("{% if thinking %}<think>{% else %}</think>{% endif %}"), note=OFF
    ),
    "Qwen 3": like_chatml(
        "",
        "<think>\n\n</think>\n\n",
        template=chatml(switched("enable_thinking", "<think>\n\n</think>\n\n")),
        note=CLOSED,
    ),
    "Qwen 3.5": like_chatml(
        "<think>\n",
        "\n</think>\n\n",
        template=chatml(switched("enable_thinking", "<think>\n\n</think>\n\n", "<think>\n")),
        note=CLOSED,
    ),
    "Qwen 3.8": Shape(
        chatml(
            switched("enable_thinking", "<think>\n\n</think>\n\n", "<think>\n"),
            "{% if not (" + IS_OFF + ") %}<|effort|>{% endif %}",
        ),
        CHAT_BOTH + "<think>\n\n</think>\n\n",
        CHAT_ALONE + "<think>\n\n</think>\n\n",
        arguments={"enable_thinking": False},
        note=SWITCHED,
    ),
    "GLM 4.5": Shape(
        turns(
            "<|ROLE|>\nTEXT{% if m.role == 'user' and " + IS_OFF + " %}/nothink{% endif %}",
            "<|assistant|>{% if " + IS_OFF + " %}{{ '\n<think></think>' }}{% endif %}",
        ),
        "<|system|>\nS<|user|>\nU/nothink<|assistant|>\n<think></think>",
        "<|user|>\nU/nothink<|assistant|>\n<think></think>",
        arguments={"enable_thinking": False},
        note=SWITCHED,
    ),
    "GLM 4.7": Shape(
        turns("<|ROLE|>TEXT", "<|assistant|>" + switched("enable_thinking", "</think>", "<think>")),
        "<|system|>S<|user|>U<|assistant|></think>",
        "<|user|>U<|assistant|></think>",
        arguments={"enable_thinking": False},
        note=SWITCHED,
    ),
}

SHAPES |= {
    "SmolVLM": Shape(
        turns("{{ m.role | capitalize }}: " + EACH_PART + "<end>\n", "Assistant:", "<|start|>"),
        "<|start|>System: S<end>\nUser: U<end>\nAssistant:",
        "<|start|>User: U<end>\nAssistant:",
        note=PARTS,
    ),
    "LLaVA-NeXT": Shape(
        turns(NO_SYSTEM_ROLE + "{{ m.role | upper }}: " + EACH_PART + " ", "ASSISTANT:"),
        "USER: S\n\nU ASSISTANT:",
        "USER: U ASSISTANT:",
        note=f"{PARTS}; {FOLDED}",
    ),
    "Qwen-VL, which takes both": Shape(
        turns(
            "<|im_start|>ROLE\n{% if m.content is string %}TEXT{% else %}" + EACH_PART + "{% endif %}<|im_end|>\n",
            START,
        ),
        CHAT_BOTH,
        CHAT_ALONE,
    ),
    "a system message in parts": Shape(
        "{% for m in messages %}{% if m.role == 'system' %}[SYS]{{ m.content[0].text }}[/SYS]{% else %}[{{ m.role }}]"
        "{{ m.content }}{% endif %}{% endfor %}[assistant]",
        "[SYS]S[/SYS][user]U[assistant]",
        "[user]U[assistant]",
        note="the system prompt is given as a part",
    ),
    "SmolLM3, dated": Shape(
        "<|system|>{{ strftime_now('%d %B %Y') }} {{ '/no_think' if " + IS_OFF + " else '/think' }}\n"
        "{% set rest = messages %}{% if messages[0].role == 'system' %}{{ messages[0].content }}\n"
        "{% set rest = messages[1:] %}{% endif %}{% for m in rest %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
        "<|assistant|>\n{% if " + IS_OFF + " %}<think>\n\n</think>\n{% endif %}",
        "<|system|>31 January 2026 /no_think\nS\n<|user|>U\n<|assistant|>\n<think>\n\n</think>\n",
        "<|system|>31 January 2026 /no_think\n<|user|>U\n<|assistant|>\n<think>\n\n</think>\n",
        arguments={"enable_thinking": False},
        note=f"{SWITCHED}; {DATED}",
    ),
    "Command A Reasoning": Shape(
        turns(
            "<|START|><|ROLE|>TEXT<|END|>",
            "<|CHATBOT|><|START_THINKING|>{% if reasoning is defined and not reasoning %}<|END_THINKING|>{% endif %}",
        ),
        "<|START|><|system|>S<|END|><|START|><|user|>U<|END|><|CHATBOT|><|START_THINKING|><|END_THINKING|>",
        "<|START|><|user|>U<|END|><|CHATBOT|><|START_THINKING|><|END_THINKING|>",
        "<|END_THINKING|>",
        note=CLOSED,
    ),
    "Command R": Shape(
        turns("<|TURN|><|{{ m.role | upper }}|>{{ m.content | trim }}<|END|>", "<|TURN|><|CHATBOT|>"),
        "<|TURN|><|SYSTEM|>S<|END|><|TURN|><|USER|>U<|END|><|TURN|><|CHATBOT|>",
        "<|TURN|><|USER|>U<|END|><|TURN|><|CHATBOT|>",
    ),
    "Seed-OSS": Shape(
        turns(
            "<bos>ROLE\nTEXT<eos>",
            "<bos>assistant\n{% if thinking_budget == 0 %}<seed:think>No budget.</seed:think>{% endif %}",
            "{% if thinking_budget == 0 %}<bos>system\nAnswer at once.<eos>{% endif %}",
        ),
        "<bos>system\nAnswer at once.<eos><bos>system\nS<eos><bos>user\nU<eos><bos>assistant\n"
        "<seed:think>No budget.</seed:think>",
        "<bos>system\nAnswer at once.<eos><bos>user\nU<eos><bos>assistant\n<seed:think>No budget.</seed:think>",
        arguments={"thinking_budget": 0},
        note=SWITCHED,
    ),
    "Solar Open": Shape(
        turns(
            "<|begin|>ROLE<|content|>TEXT<|end|>",
            "<|begin|>assistant{% if reasoning_effort in ['low', 'minimal'] %}"
            "<|think|><|end|><|begin|>assistant{% endif %}",
        ),
        "<|begin|>system<|content|>S<|end|><|begin|>user<|content|>U<|end|><|begin|>assistant"
        "<|think|><|end|><|begin|>assistant",
        "<|begin|>user<|content|>U<|end|><|begin|>assistant<|think|><|end|><|begin|>assistant",
        "<|think|><|end|><|begin|>assistant",
        note=CLOSED,
    ),
    "gpt-oss, dated": Shape(
        "<|start|>system<|message|>Date: {{ strftime_now('%Y-%m-%d') }}. Reasoning: {{ reasoning_effort | "
        "default('medium') }}<|end|>"
        + turns(HARMONY.replace("ROLE", "{{ 'developer' if m.role == 'system' else m.role }}"), "<|start|>assistant"),
        "<|start|>system<|message|>Date: 2026-01-31. Reasoning: medium<|end|><|start|>developer<|message|>S<|end|>"
        "<|start|>user<|message|>U<|end|><|start|>assistant",
        "<|start|>system<|message|>Date: 2026-01-31. Reasoning: medium<|end|><|start|>user<|message|>U<|end|>"
        "<|start|>assistant",
        note=f"the effort stays; {DATED}",
    ),
    "Kimi K2": Shape(
        turns("<|im_ROLE|>ROLE<|im_middle|>TEXT<|im_end|>", "<|im_assistant|>assistant<|im_middle|>"),
        "<|im_system|>system<|im_middle|>S<|im_end|><|im_user|>user<|im_middle|>U<|im_end|>"
        "<|im_assistant|>assistant<|im_middle|>",
        "<|im_user|>user<|im_middle|>U<|im_end|><|im_assistant|>assistant<|im_middle|>",
    ),
    "Kimi K3": Shape(
        turns(
            "<|open|>ROLE<|sep|>TEXT<|close|>",
            "<|open|>{% if thinking is defined and not thinking %}response{% else %}think{% endif %}<|sep|>",
        ),
        "<|open|>system<|sep|>S<|close|><|open|>user<|sep|>U<|close|><|open|>response<|sep|>",
        "<|open|>user<|sep|>U<|close|><|open|>response<|sep|>",
        arguments={"thinking": False},
        note=SWITCHED,
    ),
    "Granite 3.3, dated": Shape(
        "{% set s = messages[0].content if messages[0].role == 'system' else 'Today is ' + strftime_now('%B %d, %Y') %}"
        "<|system|>{{ s }}{% if thinking %} Think first.{% endif %}<|end|>{% for m in messages if m.role != 'system' %}"
        "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>",
        "<|system|>S<|end|><|user|>U<|end|><|assistant|>",
        "<|system|>Today is January 31, 2026<|end|><|user|>U<|end|><|assistant|>",
        note=DATED,
    ),
    "Nemotron 3": Shape(
        chatml(switched("enable_thinking", "<think></think>", "<think>\n")),
        CHAT_BOTH + "<think></think>",
        CHAT_ALONE + "<think></think>",
        arguments={"enable_thinking": False},
        note=SWITCHED,
    ),
    "EXAONE 4": Shape(
        turns(
            "[|ROLE|]\nTEXT[|end|]\n",
            "[|assistant|]\n" + switched("enable_thinking", "<think>\n\n</think>\n\n", "<think>\n", False),
        ),
        "[|system|]\nS[|end|]\n[|user|]\nU[|end|]\n[|assistant|]\n<think>\n\n</think>\n\n",
        "[|user|]\nU[|end|]\n[|assistant|]\n<think>\n\n</think>\n\n",
        note=OFF,
    ),
    "Hunyuan A13B": Shape(
        turns("<|ROLE|>TEXT", "<|extra|>" + switched("enable_thinking", "<think>\n\n</think>\n")),
        "<|system|>S<|user|>U<|extra|><think>\n\n</think>\n",
        "<|user|>U<|extra|><think>\n\n</think>\n",
        "<think>\n\n</think>\n",
        note=CLOSED,
    ),
    "Apriel, which thinks in prose": Shape(
        turns("<|ROLE|>\nTEXT\n", "<|assistant|>\nHere are my reasoning steps:\n"),
        "<|system|>\nS\n<|user|>\nU\n<|assistant|>\nHere are my reasoning steps:\n",
        "<|user|>\nU\n<|assistant|>\nHere are my reasoning steps:\n",
        note="what the model ends its thoughts with closes them",
    ),
    "OpenChat": Shape(
        turns("GPT4 Correct {{ m.role | title }}: TEXT<|turn|>", "GPT4 Correct Assistant:"),
        "GPT4 Correct System: S<|turn|>GPT4 Correct User: U<|turn|>GPT4 Correct Assistant:",
        "GPT4 Correct User: U<|turn|>GPT4 Correct Assistant:",
    ),
    "Saiga": Shape(
        turns("<s>ROLE\nTEXT</s>", "<s>bot\n"),
        "<s>system\nS</s><s>user\nU</s><s>bot\n",
        "<s>user\nU</s><s>bot\n",
    ),
    "Baichuan": Shape(
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}<r1>"
        "{{ m.content }}{% else %}<r2>{{ m.content }}{% endif %}{% endfor %}<r2>",
        "S<r1>U<r2>",
        "<r1>U<r2>",
    ),
    "RWKV": Shape(
        turns("{{ m.role | capitalize }}: TEXT\n\n", "Assistant:"),
        "System: S\n\nUser: U\n\nAssistant:",
        "User: U\n\nAssistant:",
    ),
    "an asking prompt of its own": Shape(
        turns("<|ROLE|>TEXT", before="") + "<|assistant|>",
        "<|system|>S<|user|>U<|assistant|>",
        "<|user|>U<|assistant|>",
    ),
}
