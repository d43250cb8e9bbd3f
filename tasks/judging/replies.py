"""Reading a judge's reply: strict, pure, and the same for every model. What cannot be read is `Unusable`.

A judgement is a label between double square brackets. Texts that are judged cannot hold one, because they are
quoted (`quoting.py`), so whatever stands in such brackets is the judge's own word; the last one counts and
nothing but blanks and full stops may follow it. What it leaves out: guessing what a sloppy reply meant.
"""

import re

_BRACKETS = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_STATEMENT = re.compile(r"<statement>(.*?)</statement>", re.DOTALL | re.IGNORECASE)
_OPENING = re.compile(r"<statement>", re.IGNORECASE)
_FULL_STOPS = " \t\r\n.。!！\"'“”`*"

SUPPORT = {
    "fully supported": 1.0,
    "partially supported": 0.5,
    "no support": 0.0,
    "完全支持": 1.0,
    "部分支持": 0.5,
    "不支持": 0.0,
}
NO_FACTS = {"en": "No factual statements", "zh": "没有事实性陈述"}
NO_NOTES = {"en": "No relevant information", "zh": "没有相关信息"}
_REFUSAL = re.compile(
    r"^\W*(i['’]?m sorry|i am sorry|sorry,|i can(no|')t (help|assist|comply)|i am unable to|as an ai\b|"
    r"the (response|content|prompt) was filtered|抱歉|对不起|我无法|我不能|作为一个?(人工智能|AI))",
    re.IGNORECASE,
)


class Unusable(Exception):
    """A reply that holds no judgement; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_rating(text: str) -> int:
    """The rating n of the last `[[n]]`, an integer in 0..10, which must end the reply.

    Different ratings before it are its reasoning, unless one of them is off the scale. Raises Unusable.
    """
    label = _last_label(text, "no_rating")
    if not re.fullmatch(r"\d{1,3}", label, re.ASCII) or not 0 <= int(label) <= 10:
        raise Unusable("off_scale")
    return int(label)


def read_support(text: str) -> float:
    """1.0, 0.5 or 0.0 for the last label in brackets, which must end the reply. Raises Unusable."""
    label = " ".join(_last_label(text, "no_label").lower().split())
    if label not in SUPPORT:
        raise Unusable("unknown_label")
    return SUPPORT[label]


def read_duel(text: str) -> str:
    """ "A", "B" or "C" (neither) for the last label in brackets, which must end the reply. Raises Unusable."""
    label = _last_label(text, "no_label").upper()
    if label not in ("A", "B", "C"):
        raise Unusable("unknown_label")
    return label


def read_facts(text: str) -> tuple[str, ...]:
    """The statements of a reply, each once, in their order; none for the sentence that says so. Raises Unusable."""
    _refuse_silence(text)
    if _is_sentence(text, NO_FACTS):
        return ()
    found = [" ".join(each.split()) for each in _STATEMENT.findall(text)]
    if len(_OPENING.findall(text)) > len(found):
        raise Unusable("cut_off")
    facts = tuple(dict.fromkeys(each for each in found if each))
    if not facts:
        raise Unusable("refused" if _REFUSAL.match(text) else "no_statements")
    return facts


def read_notes(text: str) -> str | None:
    """The notes of a reply; None when it says that the part holds nothing relevant. Raises Unusable."""
    _refuse_silence(text)
    if _is_sentence(text, NO_NOTES):
        return None
    if _REFUSAL.match(text):
        raise Unusable("refused")
    return text.strip()


def _last_label(text: str, missing: str) -> str:
    _refuse_silence(text)
    found = list(_BRACKETS.finditer(text))
    if not found:
        raise Unusable("refused" if _REFUSAL.match(text) else missing)
    last = found[-1]
    if text[last.end() :].strip(_FULL_STOPS):
        raise Unusable("not_last")
    return last.group(1).strip()


def _refuse_silence(text: str) -> None:
    if not text.strip():
        raise Unusable("empty")


def _is_sentence(text: str, sentences: dict[str, str]) -> bool:
    said = text.strip(_FULL_STOPS).lower()
    return any(said == each.lower() for each in sentences.values())
