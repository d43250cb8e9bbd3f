"""A text in its sentences, in English and Chinese.

A sentence ends at a full stop, question or exclamation mark with the quotes and brackets that close after it; in ASCII
only before a blank, in full width anywhere, since Chinese sets no blank between sentences. A line that ends without
such a mark ends a sentence too.
"""

import re

_SENTENCE_END = re.compile(r"[.!?][\"”’)\]]*(?=\s)|[。！？][”’」』）]*|(?<![\s.!?。！？\"”’」』）)\]])\n+")


def split_sentences(text: str) -> tuple[str, ...]:
    """A text in its sentences, which make the text again when they are joined."""
    sentences = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        sentences.append(text[start : match.end()])
        start = match.end()
    if start < len(text):
        sentences.append(text[start:])
    return tuple(sentences)
