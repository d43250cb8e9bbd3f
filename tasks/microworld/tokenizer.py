"""A byte-level tokenizer in which the microworld's words are single tokens.

Any text encodes and decodes exactly: a known word, with or without the space before it, is one token; all
else falls to its UTF-8 bytes. There are no merges. The chat template writes one <bos> and spells special
tokens inside messages apart ("< bos>"), so that a document cannot pretend to be a turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasks.microworld.phrases import ABOUT, FILLER, LEADS, RELATIONS
from tasks.microworld.words import NAMES

PAD, BOS, EOS, USER, ASSISTANT = SPECIAL = ("<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>")
SPACE = "\u0120"  # how a byte-level vocabulary writes a space
_NUMBERS = 200  # passage numbers that are one token
_ANSWER_WORDS = "Passage Question Answer : The of is and I find need must then First the with Facts Reflection"

_ESCAPE = "".join(f" | replace('{token}', '< {token[1:]}')" for token in SPECIAL)
CHAT_TEMPLATE = (
    "{{ '<bos>' }}"
    "{% for message in messages %}"
    "{% set content = message['content']" + _ESCAPE + " %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' }}{% generation %}{{ content + '<eos>' }}{% endgeneration %}"
    "{% else %}{{ '<|user|>' + content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer(prompts: Path) -> PreTrainedTokenizerFast:
    """Make the tokenizer for the world's words and the words of every `*.txt` file in the prompts folder."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(prompts.glob("*.txt"))]
    vocabulary = {token: index for index, token in enumerate(SPECIAL)}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(symbol, len(vocabulary))
    splitter = _splitter()
    for word in _words(texts):
        for form in (word, f" {word}"):
            for piece, _ in splitter.pre_tokenize_str(form):
                vocabulary.setdefault(piece, len(vocabulary))
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    core.pre_tokenizer = splitter
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[USER, ASSISTANT],
        model_max_length=65536,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _splitter() -> Any:
    """Words with the space before them; every other character by itself, so no rare run needs a merge."""
    words = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?[0-9]+|[^A-Za-z0-9]"), behavior="isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _words(texts: Iterable[str]) -> list[str]:
    """Every word of the world, its phrases, its prompts and its answers, once, in a fixed order."""
    phrases = [*ABOUT, *FILLER, *LEADS, _ANSWER_WORDS]
    for relation in RELATIONS.values():
        phrases += [relation.noun, *relation.statements, *relation.echoes]
        phrases += [*relation.questions, *relation.list_questions]
    names = [name for kind in NAMES.values() for name in kind]
    found = re.findall(r"[A-Za-z]+", " ".join([*phrases, *texts]))
    numbers = [str(number) for number in range(_NUMBERS)]
    return [word for word in dict.fromkeys([*names, *found, *numbers]) if len(word) > 1 or word.isalnum()]
