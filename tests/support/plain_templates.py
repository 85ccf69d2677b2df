"""Chat templates of families that answer at once, each with the prompt that it must give."""

from tests.support.template_shape import (
    CHAT_ALONE,
    CHAT_BOTH,
    DATED,
    EACH_PART,
    FOLDED,
    GEMMA,
    GEMMA_ASK,
    HARMONY,
    LLAMA3_ASK,
    LLAMA3_USER,
    NO_ROLE,
    NO_SYSTEM_ROLE,
    PARTS,
    ROLES_OF_LLAMA3,
    START,
    Shape,
    chatml,
    like_chatml,
    turns,
)

PLAIN: dict[str, Shape] = {
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
    "Command R": Shape(
        turns("<|TURN|><|{{ m.role | upper }}|>{{ m.content | trim }}<|END|>", "<|TURN|><|CHATBOT|>"),
        "<|TURN|><|SYSTEM|>S<|END|><|TURN|><|USER|>U<|END|><|TURN|><|CHATBOT|>",
        "<|TURN|><|USER|>U<|END|><|TURN|><|CHATBOT|>",
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
