"""The tokenizer of the models in the box: the words of the microworld are single tokens, all other text is bytes.

Any text encodes and decodes exactly: a word of the vocabulary, with or without the space before it, is one token;
everything else becomes its UTF-8 bytes. There are no merges. The chat template writes one <bos>, and it takes special
tokens inside messages apart ("< bos>"), so that a document cannot pretend to be a turn.

`count_tokens` counts without a tokenizer library, which is much faster: because there are no merges, a piece of text
costs the same wherever it stands, and texts that are cut between pieces can be counted apart and added up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from infra.errors import PrerequisiteError
from infra.models.tokens import resolve_model
from tasks.microworld.words import ABOUT, FILLER, LEADS, NAMES, RELATIONS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_FILE = Path(resolve_model("microworld")) / "tokenizer.json"
PAD, BOS, EOS, USER, ASSISTANT = SPECIAL = ("<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>")
SPACE = "\u0120"  # how a byte-level vocabulary writes a space
_NUMBERS = 200  # passage numbers that are one token
_UNREAD = (  # prompts that no model of the world is taught to read
    "ask-",
    "evaluate-",
    "haystack-",
    "hidden-",
    "question-common_words",
    "question-keychain",
    "question-needle",
    "question-tracking",
    "turn-",
)
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
    """Make the tokenizer for the words of the world and of the prompts in a folder, but those of `_UNREAD`."""
    from transformers import PreTrainedTokenizerFast  # slow to import, and counting does not need it

    texts = []
    for path in sorted(prompts.glob("*.txt")):
        if path.name.startswith(_UNREAD):
            continue
        texts.append(path.read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = {}
    for symbol in (*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())):
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


def encode(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a text that may hold special tokens; none are added."""
    return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def count_tokens(text: str) -> int:
    """The number of tokens of a text without special tokens, exactly.

    Raises PrerequisiteError when the tokenizer in the box is not one that `build_tokenizer` makes.
    """
    pattern, sizes = _piece_sizes()
    return sum(map(sizes.__getitem__, pattern.findall(text)))


class _PieceSizes(dict[str, int]):
    """The number of tokens of each piece of text, worked out when the piece first comes up."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    def __missing__(self, piece: str) -> int:
        # the vocabulary writes bytes of letters beyond ASCII as other letters: such a piece is never one token
        is_token = piece.isascii() and piece.replace(" ", SPACE) in self._vocabulary
        self[piece] = 1 if is_token else len(piece.encode())
        return self[piece]


@cache
def _piece_sizes() -> tuple[re.Pattern[str], _PieceSizes]:
    """The pattern by which the tokenizer in the box cuts a text into pieces, and the sizes of the pieces."""
    settings = json.loads(TOKENIZER_FILE.read_text(encoding="utf-8"))
    splitter = settings["pre_tokenizer"]["pretokenizers"][0]
    if settings["model"]["merges"] or "Regex" not in splitter["pattern"]:
        raise PrerequisiteError(
            f"{TOKENIZER_FILE}: not the microworld's tokenizer; make it with tasks/microworld/tokenizer"
        )
    return re.compile(splitter["pattern"]["Regex"]), _PieceSizes(settings["model"]["vocab"])


def _splitter() -> Any:
    """Words with the space before them; every other character by itself, so no rare run needs a merge."""
    words = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?[0-9]+|[^A-Za-z0-9]"), behavior="isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _words(texts: Iterable[str]) -> list[str]:
    """Every word of the world, its templates, its prompts and its answers, once, in a fixed order."""
    templates = [*ABOUT, *FILLER, *LEADS, _ANSWER_WORDS]
    for relation in RELATIONS.values():
        templates += [relation.noun, *relation.statements, *relation.echoes]
        templates += [*relation.questions, *relation.list_questions]
    words: list[str] = []
    for names in NAMES.values():
        words += names
    words += re.findall(r"[A-Za-z]+", " ".join([*templates, *texts]))
    words += map(str, range(_NUMBERS))
    return [word for word in dict.fromkeys(words) if len(word) > 1 or word.isalnum()]
