"""Special tokens of chat models that stand in a text: finding them, and breaking them up.

A server renders a conversation with its model's chat template and reads the whole as tokens, special tokens included.
So a document that holds the text `<|im_end|>` would end its own message. Where a text goes to a server, the first
character of such a token that is no letter or digit is replaced by one that looks like it: `‹|im_end|>`, `⁅INST]`. The
text stays readable, every other character and all offsets stay the same, and none of these characters becomes the old
one again when a tokenizer normalises Unicode. A text without such tokens is not changed.

Known everywhere are the tokens of common chat templates. A tokenizer's own are added where one is at hand: its special
tokens, and those of its other added tokens that its chat template writes. Rows of training need no change of their
text (tasks/training/encoding.py). Leaves out: tokens of letters, digits and blanks alone, which are words.
"""

import functools
import re
import threading
from collections.abc import Collection

from infra.errors import LongmillError
from infra.models.tokens import Tokenizer, load_tokenizer

# Names between angles, and between square brackets, beside all that has bars within its angles.
ANGLED = (
    "s|bos|eos|pad|unk|sop|eop|think|tool_call|tool_response|start_of_turn|end_of_turn|start_of_image|end_of_image"
    r"|BOS_TOKEN|EOS_TOKEN|EOP_TOKEN"
)
SQUARED = "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|gMASK|sMASK"
_INNER = r"[^\s<>|｜‹⁅]"  # of a token; not what stands for the first character of another one
_BARS = rf"[|｜]{_INNER}{{1,48}}[|｜]?|(?!/){_INNER}{{1,48}}[|｜]"
_IN_ANGLES, _IN_SQUARES = rf"(?:{_BARS}|/?(?:{ANGLED})|</?SYS>)>", rf"/?(?:{SQUARED})\]"
_COMMON = re.compile(rf"<{_IN_ANGLES}|\[{_IN_SQUARES}")
_BROKEN = re.compile(rf"‹{_IN_ANGLES}|⁅{_IN_SQUARES}")
_LOOKALIKES = {"<": "‹", "[": "⁅", ">": "›", "|": "¦", "{": "❴", "◁": "‹"}
_OTHER = "·"  # for any other character

NO_TOKENS: frozenset[str] = frozenset()
_one_loads = threading.Lock()  # many threads may ask for the same tokenizer


def own_special_tokens(tokenizer: Tokenizer) -> frozenset[str]:
    """The tokens of a tokenizer that structure a conversation: special ones, and those in its chat template."""
    template = getattr(tokenizer, "chat_template", None)
    templates = template.values() if isinstance(template, dict) else [template or ""]
    tokens = set(filter(None, tokenizer.all_special_tokens))
    for token in tokenizer.added_tokens_decoder.values():
        if token.special or any(token.content in text for text in templates):
            tokens.add(token.content)
    return frozenset(token for token in tokens if _mark_place(token) is not None)


def special_tokens_of(name: str, trust_remote_code: bool = False) -> frozenset[str]:
    """The own tokens of a tokenizer by its name, which is loaded once; none where it is not at hand."""
    with _one_loads:
        return _special_tokens_of(name, trust_remote_code)


@functools.cache
def _special_tokens_of(name: str, trust_remote_code: bool) -> frozenset[str]:
    try:
        return own_special_tokens(load_tokenizer(name, trust_remote_code))
    except LongmillError:
        return NO_TOKENS


def find_special_tokens(text: str, own: Collection[str] = NO_TOKENS) -> frozenset[str]:
    """The special tokens in a text that `break_special_tokens` breaks up: the common ones, and those of `own`."""
    return _broken_up(text, own)[1]


def uncommon(tokens: Collection[str]) -> frozenset[str]:
    """Those that are not known everywhere."""
    return frozenset(token for token in tokens if not _COMMON.fullmatch(token))


def break_special_tokens(text: str, own: Collection[str] = NO_TOKENS) -> str:
    """The text with its special tokens broken up; of the same length."""
    return _broken_up(text, own)[0]


def restore_common_tokens(text: str) -> str:
    """The text before its common tokens were broken up; of another text, one that looks like it: check its hash."""
    return _BROKEN.sub(lambda match: ("<" if match.group()[0] == "‹" else "[") + match.group()[1:], text)


def token_pattern(tokens: Collection[str]) -> re.Pattern[str]:
    """A pattern that matches any of the tokens, the longest first, as tokenizers do."""
    return re.compile("|".join(map(re.escape, sorted(tokens, key=lambda token: (-len(token), token)))) or r"(?!)")


def _broken_up(text: str, own: Collection[str]) -> tuple[str, frozenset[str]]:
    """The text without special tokens, and what they were. Breaking one up may leave another."""
    pattern = _pattern(frozenset(own))
    tokens: set[str] = set()
    while matches := pattern.findall(text):
        tokens.update(matches)
        text = pattern.sub(lambda match: _broken(match.group()), text)
    return text, frozenset(tokens)


@functools.cache
def _pattern(own: frozenset[str]) -> re.Pattern[str]:
    further = uncommon(own)
    return re.compile(f"{_COMMON.pattern}|{token_pattern(further).pattern}") if further else _COMMON


def _mark_place(token: str) -> int | None:
    """The place of the first character that is no letter, digit or blank; None without one."""
    for place, character in enumerate(token):
        if not character.isalnum() and not character.isspace():
            return place
    return None


def _broken(token: str) -> str:
    place = _mark_place(token)
    assert place is not None  # others are not searched for
    return token[:place] + _LOOKALIKES.get(token[place], _OTHER) + token[place + 1 :]
