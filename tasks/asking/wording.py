"""Questions that point at a text: who reads them without it cannot know what they are about."""

import re

_POINTING_EN = re.compile(
    r"\b(?:(?:the|this|that|these|those|above|given|following|provided|preceding) "
    r"(?:\w+ )?(?:text|passages?|documents?|articles?|excerpts?|paragraphs?|sections?|extracts?|sources?|authors?|"
    r"contexts?|snippets?|chapters?|pages?|table|figure)(?! (?:of|by|from|titled|called|named|in|on|for)\b)|"
    r"(?:according to|based on|as (?:stated|mentioned|described|noted) in) (?:the|this|these)\b|"
    r"(?:mentioned|described|listed|discussed|stated|named|given|cited|noted|referred to) "
    r"(?:above|below|here|earlier|previously|first|last)|in the (?:first|second|third|last|next|previous) "
    r"(?:paragraph|sentence|section|passage|document)|(?:paragraph|passage|document|sentence) \d+)\b",
    re.IGNORECASE,
)
_POINTING_ZH = re.compile(
    "本文|文中|上文|下文|原文|全文|该文|此文|这篇|这段|本篇|本段|该段|上述|以上|如下|(?:根据|依据|按照)(?:文章|材料|段落|文档|上面|短文)|"
    "(?<!哪篇)(?<!哪份)(?:文章|材料|段落|文档|短文|片段|资料)(?:中|里|内)|作者(?:认为|指出|提到)|第[一二三四五六七八九十\\d]+[段章节页]"
)
_PRONOUN_EN = re.compile(
    r"^(?:\w+ ){0,4}(?:is|was|are|were|did|does|do|has|had|have|can|could|will|would|should|might|must) "
    r"(?:he|she|it|they|this|these)\b",
    re.IGNORECASE,
)
_NAME_EN = re.compile(r"(?<!^)\b[A-Z0-9]|[\"“'‘]")


def points_at_text(question: str) -> str | None:
    """The words by which a question points at a text, or its pronoun where it names nothing; None where there are none.

    The rules are for English and Chinese.
    """
    for pattern in (_POINTING_EN, _POINTING_ZH):
        match = pattern.search(question)
        if match:
            return match.group().strip()
    pronoun = _PRONOUN_EN.search(question)
    if pronoun and not _NAME_EN.search(question):
        return pronoun.group()
    return None
