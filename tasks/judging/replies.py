"""Reading a judge's reply: pure, and the same for every model. What cannot be read is `Unusable`.

A judgement is a label between double square brackets. Texts that are judged cannot hold one, because they are
quoted (`quoting.py`), so whatever stands in such brackets comes from the judge. The last one counts, whatever
others stand before it, where it ends the reply; one that stands alone on the first line and is the only one counts
too, for judges that give their reasons afterwards. In any other reply the judge's only label counts, wherever and
however it is written (`manners.py`); several that differ are none, nor is one that stands in the judged texts
themselves. A rating with decimals is rounded to the scale, which has whole numbers; halves go up. What stands
between <think> tags is not part of a reply. What it leaves out: guessing what a reply without a label meant.
"""

import math
import re

from infra.models.thinking import CLOSING, OPENING
from tasks.judging import manners

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
SAME = {"true": True, "false": False, "相同": True, "不同": False}
YES = {"yes": True, "no": False, "是": True, "否": False}
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
_NUMBER = re.compile(
    r"[\s*#|(]*(?:statement |陈述|第)?\s*([0-9]{1,6})\s*(?:条|项)?[\s*]*[.:)．：、）|\-–—][\s*]*(.*)", re.IGNORECASE
)
_PARTS = re.compile(r"[.:;|]\s+|[。：；—–]|\s-\s|\*\*")  # of a line, between which a verdict may stand alone
_OPENED_LINE = re.compile(r"<statement>((?:[^<\n]|<(?![a-z/\\]))*)", re.IGNORECASE)  # "<" alone is a sign
_FINAL = ("empty", "cut_off", "refused", "content_filter", "unknown_label")  # reasons: no other label is looked for
_NOTHING = re.compile(
    r"(- )?(none|nothing( relevant)?|n/a|无|没有|没有(找到|任何)?(与.{1,60})?相关的?(信息|内容)|"
    r"(there is |this part (of the document )?(holds|contains|has) )?no relevant information( was found)?"
    r"( (in|on) (this|the) (part|passage|chunk|text|document|question|matter)( of the document)?)?)",
    re.IGNORECASE,
)
_SHORT = 400  # characters; longer texts that begin like a refusal are something else


class Unusable(Exception):
    """A reply that holds no judgement; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_rating(text: str, material: str = "", lowest: int = 0, highest: int = 10) -> int:
    """The rating n of the last `[[n]]`, or the only one, an integer in lowest..highest. `material`: the texts that are
    judged.

    Raises Unusable.
    """
    try:
        rating = _whole_rating(_last_label(text, "no_rating"))
    except Unusable as fault:
        rating = _on_scale(_only_label(text, material, manners.RATING, fault), highest)
    if not lowest <= rating <= highest:
        raise Unusable("off_scale")
    return rating


def read_support(text: str, material: str = "") -> float:
    """1.0, 0.5 or 0.0 for the last label in brackets, or the only one. Raises Unusable."""
    try:
        return _support(_last_label(text, "no_label"))
    except Unusable as fault:
        return _support(_only_label(text, material, manners.SUPPORT, fault))


def read_supports(text: str, count: int, material: str = "") -> tuple[float, ...]:
    """The verdicts on the statements 1 to `count`, in their order: each a line "NUMBER. reasons [[label]]".

    Exactly one for each number, in any order; lines without a label are none. Raises Unusable.
    """
    reply = without_thinking(text)
    values: dict[int, float] = {}
    for line in reply.splitlines():
        verdict = _numbered_verdict(line, material)
        if verdict is None:
            continue
        number, support = verdict
        if not 1 <= number <= count:
            raise Unusable("unknown_number")
        if number in values:
            raise Unusable("repeated_verdict")
        values[number] = support
    if len(values) < count:
        raise Unusable("missing_verdict" if values else refusal_reason(reply) or "no_label")
    return tuple(values[number] for number in range(1, count + 1))


def read_duel(text: str, material: str = "") -> str:
    """ "A", "B" or "C" (neither) for the last label in brackets, or the only one. Raises Unusable."""
    try:
        return _winner(_last_label(text, "no_label"))
    except Unusable as fault:
        return _winner(_only_label(text, material, manners.DUEL, fault))


def read_same(text: str, material: str = "") -> bool:
    """True or False (the same answer or not) for the last label in brackets, or the only one. Raises Unusable."""
    try:
        return _labelled(_last_label(text, "no_label"), SAME)
    except Unusable as fault:
        return _labelled(_only_label(text, material, manners.SAME, fault), SAME)


def read_yes(text: str, material: str = "") -> bool:
    """True or False (yes or no) for the last label in brackets, or the only one. Raises Unusable."""
    try:
        return _labelled(_last_label(text, "no_label"), YES)
    except Unusable as fault:
        return _labelled(_only_label(text, material, manners.YES, fault), YES)


def read_facts(text: str) -> tuple[str, ...]:
    """The statements of a reply, each once, in their order; none for the sentence that says so. Raises Unusable."""
    reply = without_thinking(text)
    if _is_sentence(reply, NO_FACTS) or _begins_with_sentence(reply, NO_FACTS):
        return ()
    listed = _statements(reply)
    if listed is None:
        return ()
    statements = [" ".join(statement.split()) for statement in listed]
    if len(_OPENING.findall(reply)) > len(statements):
        raise Unusable("cut_off")
    facts = [statement for statement in statements if statement and not _is_sentence(statement, NO_FACTS)]
    if not any(statements):
        raise Unusable(refusal_reason(reply) or "no_statements")
    return tuple(dict.fromkeys(facts))


def read_notes(text: str) -> str | None:
    """The notes of a reply; None when it says that the part holds nothing relevant. Raises Unusable."""
    reply = without_thinking(text)
    if _is_sentence(reply, NO_NOTES):
        return None
    refusal = refusal_reason(reply)
    if refusal:
        raise Unusable(refusal)
    return reply


def _statements(reply: str) -> list[str] | None:
    """The statements between tags, or where there is no tag the items of a list; None for a list without any item.

    Where no tag is closed, a statement ends with its line.
    """
    if not _OPENING.search(reply):
        items = manners.listed_texts(reply)
        return None if items == [] else items or []
    if "</statement>" not in reply.lower():
        return [line for line in _OPENED_LINE.findall(reply) if line.strip()]
    return _STATEMENT.findall(reply)


def _numbered_verdict(line: str, material: str) -> tuple[int, float] | None:
    """The number of a statement and the verdict on it; None for a line without a label. Raises Unusable."""
    labels = _BRACKETS.findall(line)
    strict = _NUMBERED.fullmatch(line)
    if strict is not None and len(labels) == 1:
        return int(strict.group(1)), _support(strict.group(3))
    number = _NUMBER.match(line)
    if number is None:
        if labels:
            raise Unusable("stray_label")
        return None
    last_words = _PARTS.split(number.group(2).rstrip(_FULL_STOPS))[-1]
    own_labels = manners.own_labels(f"verdict: {number.group(2)}\n{last_words}", material, manners.SUPPORT)
    if len(own_labels) == 1:
        return int(number.group(1)), _support(own_labels[0])
    if labels or own_labels:
        raise Unusable("stray_label")
    return None


def _only_label(text: str, material: str, kind: manners.LabelKind, fault: Unusable) -> str:
    """The only label of a reply that is not written as it was asked for. Raises the fault where there is none."""
    if fault.reason in _FINAL:
        raise fault
    labels = manners.own_labels(without_thinking(text), material, kind)
    if len(labels) > 1:
        raise Unusable("several_labels") from fault
    if not labels:
        raise fault
    return labels[0]


def _whole_rating(label: str) -> int:
    if not _RATING.fullmatch(label):
        raise Unusable("off_scale")
    return int(label)


def _winner(label: str) -> str:
    if label.upper() not in ("A", "B", "C"):
        raise Unusable("unknown_label")
    return label.upper()


def _labelled(label: str, values: dict[str, bool]) -> bool:
    if label.lower() not in values:
        raise Unusable("unknown_label")
    return values[label.lower()]


def _on_scale(rating: str, highest: int) -> int:
    """A rating as text, such as "7.5" or "7/10", on the scale of whole numbers up to `highest`; halves go up."""
    number, _, out_of = rating.partition("/")
    if out_of not in ("", str(highest)) or not float(number) <= highest:
        raise Unusable("off_scale")
    return math.floor(float(number) + 0.5)


def says_nothing(notes: str) -> bool:
    """True for notes that say in other words that the part holds nothing relevant."""
    if any(line.lstrip().startswith(("-", "•", "*")) for line in notes.strip().splitlines()[1:]):
        return False
    return _begins_with_sentence(notes, NO_NOTES) or bool(_NOTHING.fullmatch(notes.strip(_FULL_STOPS)))


def _support(label: str) -> float:
    plain_label = " ".join(label.lower().split())
    if plain_label not in SUPPORT:
        raise Unusable("unknown_label")
    return SUPPORT[plain_label]


def _last_label(text: str, missing: str) -> str:
    reply = without_thinking(text)
    labels = list(_BRACKETS.finditer(reply))
    if not labels:
        raise Unusable(refusal_reason(reply) or missing)
    last = labels[-1]
    if reply[last.end() :].strip(_FULL_STOPS) and not _is_first_line(reply, labels):
        raise Unusable("not_last")
    return last.group(1).strip()


def _is_first_line(reply: str, labels: list[re.Match[str]]) -> bool:
    """True when the only label stands alone on the first line."""
    first_line = reply.partition("\n")[0]
    return len(labels) == 1 and first_line.strip(_FULL_STOPS) == labels[0].group()


def without_thinking(text: str) -> str:
    """The reply after the judge's thinking, stripped: also thinking that the client has left in the text.

    A judge's own words hold no such tags, for those of quoted texts are broken up: here the last one counts.
    """
    reply = text.rpartition(CLOSING)[2].strip()
    if reply.startswith(OPENING):
        raise Unusable("cut_off")
    if not reply:
        raise Unusable("empty")
    return reply


def refusal_reason(reply: str) -> str | None:
    if len(reply) > _SHORT:
        return None
    if _FILTERED.match(reply):
        return "content_filter"
    return "refused" if _REFUSAL.match(reply) else None


def _is_sentence(text: str, sentences: dict[str, str]) -> bool:
    plain_text = text.strip(_FULL_STOPS).lower()
    return plain_text in [sentence.lower() for sentence in sentences.values()]


def _begins_with_sentence(reply: str, sentences: dict[str, str]) -> bool:
    """True for a short reply whose first sentence, or first words in brackets, says that there is none."""
    if len(reply) > _SHORT or _OPENING.search(reply):
        return False
    first_words = re.split(r"[.。\n\]】:：;；,，(（]", manners.plain(reply).lstrip(" [\"'*_#`“"), maxsplit=1)[0]
    return _is_sentence(first_words, sentences)
