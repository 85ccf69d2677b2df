"""Chat templates of families that think before they answer, each with the prompt that it must give."""

from tests.support.template_shape import (
    CHAT_ALONE,
    CHAT_BOTH,
    CLOSED,
    DATED,
    IS_OFF,
    OFF,
    SWITCHED,
    Shape,
    chatml,
    like_chatml,
    switched,
    turns,
)

THINKING: dict[str, Shape] = {
    "Gemma 4": Shape(
        turns(
            "<|turn>ROLE\n{{ m.content | trim }}<turn|>\n",
            "<|turn>model\n{% if not enable_thinking %}<|channel>thought\n<channel|>{% endif %}",
        ),
        "<|turn>system\nS<turn|>\n<|turn>user\nU<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
        "<|turn>user\nU<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
        note=OFF,
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
}
