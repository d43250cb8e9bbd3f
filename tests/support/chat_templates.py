"""Ten chat templates of well-known shapes, each with a small tokenizer that has its special tokens.

The shapes and the tokens are those of the model families; the templates are written anew, as short as they can be.
"""

from dataclasses import dataclass
from typing import Any

from infra.models.tokens import load_tokenizer

OWN_TOKENS = (">>CORPUS<<", "<repo_mark>")  # that no common list has; every tokenizer here has them


@dataclass(frozen=True)
class Family:
    """A template and the tokens that it writes. `structural`: added tokens that are not marked as special."""

    template: str
    special: tuple[str, ...]
    structural: tuple[str, ...] = ()
    strips_right: bool = False  # its special tokens take the blanks after them
    thinks: bool = False

    def tokenizer(self) -> Any:
        """The microworld's byte-level tokenizer with these tokens and this template."""
        from transformers import AddedToken

        tokenizer = load_tokenizer("microworld")
        for token in (*self.special, *OWN_TOKENS):
            tokenizer.add_tokens([AddedToken(token, normalized=False, rstrip=self.strips_right)], special_tokens=True)
        for token in self.structural:
            tokenizer.add_tokens([AddedToken(token, normalized=False)])
        tokenizer.chat_template = self.template
        return tokenizer


def _turns(user: str, assistant: str, opening: str, start: str = "") -> str:
    """A template from its two kinds of turns and the opening of an answer; `c` is the content."""
    return (
        start
        + "{% for message in messages %}{% set c = message['content'] %}{% if message['role'] != 'assistant' %}"
        + user
        + "{% else %}"
        + assistant
        + "{% endif %}{% endfor %}{% if add_generation_prompt %}"
        + opening
        + "{% endif %}"
    )


_QWEN_THINKING = (
    "{% set r = message.reasoning_content or '' %}"
    "{% if not r and '</think>' in c %}{% set r = c.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|im_start|>assistant\n<think>\n{{ r.strip('\n') }}\n</think>\n\n{{ c.lstrip('\n') }}<|im_end|>\n"
)

FAMILIES = {
    "chatml": Family(
        _turns(
            "<|im_start|>{{ message['role'] }}\n{{ c }}<|im_end|>\n",
            "<|im_start|>assistant\n{{ c }}<|im_end|>\n",
            "<|im_start|>assistant\n",
        ),
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    ),
    "llama-3": Family(
        _turns(
            "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ c | trim }}<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n{{ c | trim }}<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "<|begin_of_text|>",
        ),
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "mistral": Family(_turns("[INST] {{ c }}[/INST]", " {{ c }}</s>", "", "<s>"), ("<s>", "</s>", "[INST]", "[/INST]")),
    "gemma": Family(
        _turns(
            "<start_of_turn>user\n{{ c | trim }}<end_of_turn>\n",
            "<start_of_turn>model\n{{ c | trim }}<end_of_turn>\n",
            "<start_of_turn>model\n",
            "<bos>",
        ),
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    ),
    "phi": Family(
        _turns("<|user|>\n{{ c }}<|end|>\n", "<|assistant|>\n{{ c }}<|end|>\n", "<|assistant|>\n"),
        ("<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        strips_right=True,
    ),
    "zephyr": Family(
        _turns("<|user|>\n{{ c }}</s>\n", "<|assistant|>\n{{ c }}</s>\n", "<|assistant|>\n"), ("<s>", "</s>")
    ),
    "deepseek-r1": Family(
        _turns(
            "<｜User｜>{{ c }}",
            "<｜Assistant｜>{{ c.split('</think>')[-1] }}<｜end▁of▁sentence｜>",
            "<｜Assistant｜><think>\n",
            "<｜begin▁of▁sentence｜>",
        ),
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        ("<think>", "</think>"),
        thinks=True,
    ),
    "qwen-3": Family(
        _turns(
            "<|im_start|>{{ message['role'] }}\n{{ c }}<|im_end|>\n",
            _QWEN_THINKING,
            "<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
            "<think>\n\n</think>\n\n{% endif %}",
        ),
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        ("<think>", "</think>", "<tool_call>", "</tool_call>"),
        thinks=True,
    ),
    "glm": Family(
        _turns(
            "<|user|>\n{{ c }}",
            "<|assistant|>\n<think>{{ (message.reasoning_content or '').strip() }}</think>\n{{ c.strip() }}",
            "<|assistant|>{% if enable_thinking is defined and enable_thinking is false %}"
            "{{ '\\n' }}<think></think>{% endif %}",
            "[gMASK]<sop>",
        ),
        ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|endoftext|>"),
        ("<think>", "</think>"),
        thinks=True,
    ),
    "command-r": Family(
        _turns(
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{ c | trim }}<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{{ c | trim }}<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
            "<BOS_TOKEN>",
        ),
        ("<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
    ),
}
EVERY_TOKEN = tuple(
    sorted({token for family in FAMILIES.values() for token in (*family.special, *family.structural)} | {*OWN_TOKENS})
)
