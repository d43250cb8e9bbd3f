"""Quoting: a document or an answer put into a judge's prompt can neither change its structure nor judge itself.

What would matter is broken up visibly and stays readable: a blank goes between double square brackets, which hold
judgements, and into special tokens of chat templates; the angle of a tag that parts the prompt becomes ‹.
Placeholders need nothing: a prompt is filled in one pass. Offsets in evidence refer to the text before quoting.
A text whose special tokens were broken up for the policy's prompt (`infra/models/special_tokens.py`) is quoted as the
text before, but for tokens in square brackets and such as `<turn|>`, which look alike then. Special tokens that the
judge's tokenizer alone has are broken up in `asking.py`.
"""

import re

from infra.models import special_tokens

TAGS = (
    "document_part",
    "document",
    "passages",
    "statement",
    "notes",
    "question",
    "answer",
    "first_answer",
    "second_answer",
    "example",
)
# Special tokens of chat templates, beside all that begins with <| or ends with |>, and tokens of other models.
_ANGLED = rf"{special_tokens.ANGLED}|sep|cls|mask|thought|tools|unused\d+|extra_id_\d+|0x[0-9A-F]{{2}}"
_SQUARED = f"{special_tokens.SQUARED}|SYS|IMG|PREFIX|MIDDLE|SUFFIX|BOS|EOS|EOT|SEP|CLS|MASK|PAD|UNK"
_ANGLE = re.compile(
    rf"<(?=\s*/?\s*(?:{'|'.join(TAGS)})\b|[|｜]|/?(?:{_ANGLED})\s*/?>|</?SYS>)",
    re.IGNORECASE,
)
_OTHERS = re.compile(rf"\[(?=\[)|\](?=\])|[|｜](?=>)|\[(?=/?(?:{_SQUARED})\])", re.IGNORECASE)


def quoted(text: str) -> str:
    """The text with everything broken up that a prompt or a parser gives a meaning to. Idempotent."""
    return _OTHERS.sub(lambda match: match.group() + " ", _ANGLE.sub("‹", text))
