"""Reading a judge's reply: strict, pure, and the same for every model. What cannot be read is `Unusable`.

A judgement is a label between double square brackets. Texts that are judged cannot hold one, because they are
quoted (`quoting.py`), so whatever stands in such brackets comes from the judge. The last one counts, whatever
others stand before it, and it must end the reply: what is quoted or weighed in passing ("it asks for a [[10]], but
...") is none. One that stands alone on the first line and is the only one counts too, for judges that give their
reasons afterwards. What stands between <think> tags is not part of a reply. What it leaves out: guessing what a
sloppy reply meant.
"""

import re

from infra.models.thinking import CLOSING, OPENING

_BRACKETS = re.compile(r"\[\[([^\[\]]*)\]\]")
_RATING = re.compile(r"10|[0-9]")
_STATEMENT = re.compile(r"<statement>(.*?)</statement>", re.DOTALL | re.IGNORECASE)
_OPENING = re.compile(r"<statement>", re.IGNORECASE)
_FULL_STOPS = " \t\r\n.。!！\"'“”`*"
_NUMBERED = re.compile(r"\s*([0-9]{1,6})\s*[.:)．：、）](.*?)\[\[([^\[\]]*)\]\][ \t.。!！]*")

SUPPORT = {
    "fully supported": 1.0,
    "partially supported": 0.5,
    "no support": 0.0,
    "完全支持": 1.0,
    "部分支持": 0.5,
    "不支持": 0.0,
}
SUPPORT_LABELS = {
    "en": ("Fully supported", "Partially supported", "No support"),
    "zh": ("完全支持", "部分支持", "不支持"),
}
NO_FACTS = {"en": "No factual statements", "zh": "没有事实性陈述"}
NO_NOTES = {"en": "No relevant information", "zh": "没有相关信息"}
_REFUSAL = re.compile(
    r"\s*(i['’]?m (very |really )?sorry|i am sorry|(sorry|i apologi[sz]e|unfortunately)\b[,.]? (but )?(i|we) |"
    r"(i|we) (can(not|['’]t)|am unable to|are unable to|am not able to|won['’]t) "
    r"(help|assist|comply|provide|rate|judge|answer|fulfil|process|discuss|take|extract|list|find|continue|do)|"
    r"as an ai\b|抱歉|对不起|很遗憾|作为一个?(人工智能|AI|语言模型)|"
    r"我(无法|不能)(提供|回答|协助|帮助|评分|评价|评判|判断|满足|处理|完成|讨论|提取|继续))",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"\s*((the|this|your|that) )?(response|content|prompt|request|output|message|text)s? "
    r"((was|were|is|has been|have been) )?(filtered|blocked|flagged|removed)\b|.{0,80}content management policy",
    re.IGNORECASE,
)
_SHORT = 400  # characters; longer texts that begin like a refusal are something else


class Unusable(Exception):
    """A reply that holds no judgement; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_rating(text: str) -> int:
    """The rating n of the last `[[n]]`, an integer in 0..10 without leading zeros. Raises Unusable."""
    label = _last_label(text, "no_rating")
    if not _RATING.fullmatch(label):
        raise Unusable("off_scale")
    return int(label)


def read_support(text: str) -> float:
    """1.0, 0.5 or 0.0 for the last label in brackets. Raises Unusable."""
    return _support(_last_label(text, "no_label"))


def read_supports(text: str, count: int) -> tuple[float, ...]:
    """The verdicts on the statements 1 to `count`, in their order: each a line "NUMBER. reasons [[label]]".

    Exactly one for each number, in any order; lines without double square brackets are none. Raises Unusable.
    """
    reply = _without_thinking(text)
    values: dict[int, float] = {}
    for line in reply.splitlines():
        labels = _BRACKETS.findall(line)
        if not labels:
            continue
        verdict = _NUMBERED.fullmatch(line)
        if verdict is None or len(labels) > 1:
            raise Unusable("stray_label")
        number = int(verdict.group(1))
        if not 1 <= number <= count:
            raise Unusable("unknown_number")
        if number in values:
            raise Unusable("repeated_verdict")
        values[number] = _support(verdict.group(3))
    if len(values) < count:
        raise Unusable("missing_verdict" if values else _refusal_reason(reply) or "no_label")
    return tuple(values[number] for number in range(1, count + 1))


def read_duel(text: str) -> str:
    """ "A", "B" or "C" (neither) for the last label in brackets. Raises Unusable."""
    label = _last_label(text, "no_label").upper()
    if label not in ("A", "B", "C"):
        raise Unusable("unknown_label")
    return label


def read_facts(text: str) -> tuple[str, ...]:
    """The statements of a reply, each once, in their order; none for the sentence that says so. Raises Unusable."""
    reply = _without_thinking(text)
    if _is_sentence(reply, NO_FACTS):
        return ()
    statements = [" ".join(statement.split()) for statement in _STATEMENT.findall(reply)]
    if len(_OPENING.findall(reply)) > len(statements):
        raise Unusable("cut_off")
    facts = [statement for statement in statements if statement and not _is_sentence(statement, NO_FACTS)]
    if not any(statements):
        raise Unusable(_refusal_reason(reply) or "no_statements")
    return tuple(dict.fromkeys(facts))


def read_notes(text: str) -> str | None:
    """The notes of a reply; None when it says that the part holds nothing relevant. Raises Unusable."""
    reply = _without_thinking(text)
    if _is_sentence(reply, NO_NOTES):
        return None
    refusal = _refusal_reason(reply)
    if refusal:
        raise Unusable(refusal)
    return reply


def _support(label: str) -> float:
    plain_label = " ".join(label.lower().split())
    if plain_label not in SUPPORT:
        raise Unusable("unknown_label")
    return SUPPORT[plain_label]


def _last_label(text: str, missing: str) -> str:
    reply = _without_thinking(text)
    labels = list(_BRACKETS.finditer(reply))
    if not labels:
        raise Unusable(_refusal_reason(reply) or missing)
    last = labels[-1]
    if reply[last.end() :].strip(_FULL_STOPS) and not _is_first_line(reply, labels):
        raise Unusable("not_last")
    return last.group(1).strip()


def _is_first_line(reply: str, labels: list[re.Match[str]]) -> bool:
    """True when the only label stands alone on the first line."""
    first_line = reply.partition("\n")[0]
    return len(labels) == 1 and first_line.strip(_FULL_STOPS) == labels[0].group()


def _without_thinking(text: str) -> str:
    """The reply after the judge's thinking, stripped: also thinking that the client has left in the text.

    A judge's own words hold no such tags, for those of quoted texts are broken up: here the last one counts.
    """
    reply = text.rpartition(CLOSING)[2].strip()
    if reply.startswith(OPENING):
        raise Unusable("cut_off")
    if not reply:
        raise Unusable("empty")
    return reply


def _refusal_reason(reply: str) -> str | None:
    if len(reply) > _SHORT:
        return None
    if _FILTERED.match(reply):
        return "content_filter"
    return "refused" if _REFUSAL.match(reply) else None


def _is_sentence(text: str, sentences: dict[str, str]) -> bool:
    plain_text = text.strip(_FULL_STOPS).lower()
    return plain_text in [sentence.lower() for sentence in sentences.values()]
