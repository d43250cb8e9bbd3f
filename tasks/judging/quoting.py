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
_ANGLE = re.compile(
    rf"<(?=\s*/?\s*(?:{'|'.join(TAGS)})\b"
    # <|im_end|>, <｜User｜>, <s>, </s>, <bos>, <start_of_turn>, <<SYS>>, ...
    r"|[|｜<]|/?(?:s|bos|eos|pad|unk|sep|cls|mask|think|tool_call|start_of_turn|end_of_turn)>)",
    re.IGNORECASE,
)
_OTHERS = re.compile(
    r"\[(?=\[)|\](?=\])|[|｜](?=>)"
    r"|\[(?=/?(?:INST|SYS|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK|SEP|CLS|MASK|PAD|UNK)\b)",
    re.IGNORECASE,
)


def quoted(text: str) -> str:
    """The text with everything broken up that a prompt or a parser gives a meaning to. Idempotent."""
    return _OTHERS.sub(lambda match: match.group() + " ", _ANGLE.sub("‹", text))
