"""Labels in replies that are not written as they were asked for: judges have manners of their own.

A label is a rating or a verdict. It counts where it stands

    between double brackets     [[7]]/10, [[7.5]], 【8】, ［［8］］
    after its name              Rating: 7, **Score**: 7/10, "rating": 7, 评分：8, I would give it a 7
    alone                       a first or last line that holds nothing else: 7, **7/10**, 8分
    out of ten                  7/10, 7 out of 10 (ratings alone, and only where there is none of the others)

Full-width digits and signs are read as the plain ones. A label that stands in the judged texts in the same form is an
echo of them and does not count. What is left out: words in passing ("nearly a 7", "not fully supported"), which are
no labels.
"""

import json
import re
import unicodedata
from dataclasses import dataclass

_BRACKETS = re.compile(r"\[{3,}|【+")
_CLOSING_BRACKETS = re.compile(r"\]{3,}|】+")
_DECORATION = " \t\r\n.。!！\"'“”`*_#>()[]{}|"
_DELIMITER = r"[\"'*_\s]*(?::|=|\bis\b|为|是|\]\]|\|)[\"'*_\s\[(]*"
_FENCE = re.compile(r"^\s*```[a-z]*\s*|\s*```\s*$", re.IGNORECASE)
_ITEM = re.compile(r"\s*(?:[-*•·]|\d{1,3}\s*[.)、．])\s*(\S.*)")


@dataclass(frozen=True, slots=True)
class LabelKind:
    """What labels of one kind look like in plain text: `label` and `spoken` are expressions, each with one group."""

    label: str
    names: str  # what may stand before it, with a colon between
    spoken: str | None = None  # a phrase that gives the label
    passing: str | None = None  # a form that counts only where there is no other


_OF = r"\s*(?:/|out of)\s*"
_NUMBER = (
    rf"(?<![\d.\-])((?:0|[1-9]\d*)(?:\.\d+)?(?:{_OF}\d+)?)"
    r"(?!\d|\.\d|%|\s*[-–~]\s*\d|\s+(?:to|or)\s+\d|\s*points? for)"
)
RATING = LabelKind(
    label=_NUMBER + r"(?:\s*分)?",
    names="rating|score|grade|mark|评分|得分|分数|打分|总分",
    spoken=r"\b(?:i|we)(?:'d| would| will|'ll)? (?:give|rate|score|grade|award)"
    r"(?: (?:this answer|the answer|it|this|as|at|with|an?))+(?: (?:rating|score) of)?[ *\[]+" + _NUMBER,
    passing=rf"(?<![\w./])((?:0|[1-9]\d*)(?:\.\d+)?{_OF}10)(?![\d/]|\.\d|%| of\b)",
)
SUPPORT = LabelKind(
    label=r"((?:fully|partially) supported|no support|完全支持|部分支持|不支持)",
    names="verdict|label|judge?ment|conclusion|support|answer|result|结论|判断|判定|结果|答案",
)
DUEL = LabelKind(
    label=r"(?:answer |回答)?([abc])",
    names="verdict|label|judge?ment|winner|better answer|better|result|结论|判断|判定|结果|更好的回答",
)

SAME = LabelKind(
    label=r"(true|false|相同|不同)",
    names="verdict|label|judge?ment|conclusion|result|same(?: answer)?|结论|判断|判定|结果",
)
YES = LabelKind(
    label=r"(yes|no|是|否)",
    names="verdict|label|judge?ment|conclusion|answer|reply|result|结论|判断|判定|结果|答案|答复",
)


def own_labels(reply: str, material: str, kind: LabelKind) -> tuple[str, ...]:
    """The different labels that a reply gives, in plain lower-case text. `material`: the texts that were judged."""
    text = plain(reply)
    echoes = _without_blanks(plain(material))
    labels: dict[str, None] = {}
    for expression in _expressions(kind):
        for match in re.finditer(expression, text, re.MULTILINE):
            if _without_blanks(match.group()) not in echoes:
                labels[_label_text(match)] = None
    labels.update(dict.fromkeys(_alone(text, plain(material), kind)))
    if not labels and kind.passing is not None:
        for match in re.finditer(kind.passing, text):
            if _without_blanks(match.group()) not in echoes:
                labels[_label_text(match)] = None
    return tuple(labels)


def plain(text: str) -> str:
    """The text in lower case, with plain digits, signs and double brackets."""
    simple = unicodedata.normalize("NFKC", text).replace("’", "'").lower()
    return _CLOSING_BRACKETS.sub("]]", _BRACKETS.sub("[[", simple))


def listed_texts(reply: str) -> list[str] | None:
    """The items of a reply that is a JSON list, maybe empty, or a list with a dash or a number before each.

    One line that ends with a colon may stand before the list. None for other texts.
    """
    text = _FENCE.sub("", reply).strip()
    from_json = _json_texts(text)
    if from_json is not None:
        return from_json
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].rstrip("* ").endswith((":", "：")) and not _ITEM.fullmatch(lines[0]):
        del lines[0]
    items = [_ITEM.fullmatch(line) for line in lines]
    texts = []
    for item in items:
        if item is None:
            return None
        texts.append(item.group(1).strip())
    return texts or None


def _expressions(kind: LabelKind) -> list[str]:
    named = rf"(?<![a-z])(?:{kind.names}){_DELIMITER}"
    end = r"(?=[\"'*_)\]}|,.;!。，；！]|\s*$|\s*\()"
    in_brackets = rf"\[\[\s*(?:(?:{kind.names})\s*:\s*)?{kind.label}\s*\]\](?P<of>{_OF}\d+)?"
    expressions = [in_brackets, named + kind.label + end]
    if kind.spoken is not None:
        expressions.append(kind.spoken)
    return expressions


def _alone(text: str, material: str, kind: LabelKind) -> list[str]:
    """Labels that are all of the first or the last line, or the one value of a JSON object, and no echo."""
    lines = [line for line in _FENCE.sub("", text).splitlines() if line.strip()]
    echoes = {_without_blanks(line).strip(_DECORATION) for line in material.splitlines()}
    candidates = []
    for line in dict.fromkeys([*lines[:1], *lines[-1:]]):
        candidate = line.strip(_DECORATION)
        if "[ [" not in line and _without_blanks(candidate) not in echoes:  # brackets with a blank are quoted
            candidates.append(candidate)
    if _without_blanks(text) not in _without_blanks(material):
        candidates.extend(_json_values(text))
    labels = []
    for candidate in candidates:
        match = re.fullmatch(kind.label, candidate)
        if match is not None:
            labels.append(_label_text(match))
    return labels


def _json_values(text: str) -> list[str]:
    """The value of a JSON object that holds one number, or one text."""
    try:
        value = json.loads(_FENCE.sub("", text))
    except ValueError:
        return []
    if not isinstance(value, dict):
        return []
    numbers = [str(entry) for entry in value.values() if isinstance(entry, int | float) and not isinstance(entry, bool)]
    texts = [entry for entry in value.values() if isinstance(entry, str)]
    if len(numbers) == 1:
        return numbers
    return texts if len(texts) == 1 else []


def _json_texts(text: str) -> list[str] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        return None
    return value


def _label_text(match: re.Match[str]) -> str:
    """The label without blanks in a number: "7/10" for "7 out of 10" and for "[[7]]/10"."""
    label = " ".join(match.group(1).split())
    if not label[0].isdigit():
        return label
    return _without_blanks((label + (match.groupdict().get("of") or "")).replace("out of", "/"))


def _without_blanks(text: str) -> str:
    return "".join(text.split())
