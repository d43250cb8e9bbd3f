"""Quoting: a document or an answer put into a judge's prompt can neither change its structure nor judge itself.

What would matter is broken up visibly and stays readable: a blank goes between double square brackets, which hold
judgements, and into special tokens of chat templates; the angle of a tag that parts the prompt becomes ‹.
Placeholders need nothing: a prompt is filled in one pass. Offsets in evidence refer to the text before quoting.
"""

import re

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
# Special tokens of chat templates, beside all that begins with <| or ends with |>.
_ANGLED = (
    r"s|bos|eos|pad|unk|sep|cls|mask|sop|eop|think|thought|tool_call|tool_response|tools|start_of_turn|end_of_turn"
    r"|start_of_image|end_of_image|unused\d+|extra_id_\d+|0x[0-9A-F]{2}"
)
_SQUARED = (
    "INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|IMG|PREFIX|MIDDLE|SUFFIX"
    "|gMASK|sMASK|BOS|EOS|EOT|SEP|CLS|MASK|PAD|UNK"
)
_ANGLE = re.compile(
    rf"<(?=\s*/?\s*(?:{'|'.join(TAGS)})\b|[|｜]|/?(?:{_ANGLED})\s*/?>|</?SYS>)",
    re.IGNORECASE,
)
_OTHERS = re.compile(rf"\[(?=\[)|\](?=\])|[|｜](?=>)|\[(?=/?(?:{_SQUARED})\])", re.IGNORECASE)


def quoted(text: str) -> str:
    """The text with everything broken up that a prompt or a parser gives a meaning to. Idempotent."""
    return _OTHERS.sub(lambda match: match.group() + " ", _ANGLE.sub("‹", text))
