"""Multiple choice: the lettered options of a question, and which of them an answer chooses, from its words alone.

The options are the lines "A. ...", "B. ..." of the question's text, so whoever has the question has its options.

An answer may name a letter ("The correct answer is (D)", "B. In 1911", "答案是C") or repeat an option's text. It
chooses nothing when it names several options and does not say which of them is its answer.
Leaves out: questions with several right options.
"""

import re
import string
from collections.abc import Callable, Sequence

LETTERS = string.ascii_uppercase

# A capital letter that stands alone, and that is not the first of several ("A and B").
_SEVERAL = r"(?!\s*(?:and|or|&|/|,|，|、|和|或|与)\s*[(（]?[A-Z](?![A-Za-z]))"
_LETTER = rf"[\s*_`\"'“‘(\[（【]*([A-Z])(?![A-Za-z0-9]){_SEVERAL}"
_ANSWER = re.compile(
    rf"(?:(?i:\banswer|\bchoose|\bpick)|答案|应选|选择)(?:(?i: is| would be)|应该是|应为|是|为)?\s*[:：]?{_LETTER}"
)
_FIRST = re.compile(rf"\A{_LETTER}(?=[\s*_`\"'”’]*(?:[)\]）】.:：,，、。;；\n]|\Z))")
_BRACKETED = re.compile(r"[(\[（【]\s*([A-Z])\s*[)\]）】]")
_OPTION = re.compile(rf"(?:(?i:\boption|\bchoice)|选项){_LETTER}")


def option_lines(options: Sequence[str]) -> str:
    """Options as lines of a question's text: "A. In 1911", "B. ..."."""
    return "\n".join(f"{letter}. {' '.join(option.split())}" for letter, option in zip(LETTERS, options, strict=False))


def lettered_options(question: str) -> list[str]:
    """The options that `option_lines` wrote into a question's text, the last such lines; empty without any."""
    options: list[str] = []
    for line in question.splitlines():
        if line.startswith("A. "):
            options = []
        if len(options) < len(LETTERS) and line.startswith(f"{LETTERS[len(options)]}. "):
            options.append(line[3:])
    return options if len(options) > 1 else []


def with_options(question: str, options: Sequence[str]) -> str:
    """A question's text with other options in place of its own, the last lettered lines."""
    lines = question.splitlines()
    start = max(place for place, line in enumerate(lines) if line.startswith("A. "))
    lines[start : start + len(options)] = option_lines(options).splitlines()
    return "\n".join(lines)


def chosen_letter(text: str, options: Sequence[str], occurs: Callable[[str, str], bool]) -> str | None:
    """The letter of the option that an answer chooses, "A" for the first; None when it chooses none or several.

    `occurs(option, text)` says whether an option's text stands in the answer.
    """
    letters = LETTERS[: len(options)]
    text = text.strip()
    if len(text) == 1 and text.upper() in letters:
        return text.upper()
    first = _named(_FIRST, text, letters)
    if first:
        return first[0]
    stated = _named(_ANSWER, text, letters)
    if stated:
        return stated[-1]
    for pattern in (_OPTION, _BRACKETED):
        named = set(_named(pattern, text, letters))
        if len(named) == 1:
            return named.pop()
    return _repeated(text, options, occurs)


def _named(pattern: re.Pattern[str], text: str, letters: str) -> list[str]:
    """The letters that a pattern matches and that are those of options, in the order of the text."""
    named: list[str] = pattern.findall(text)
    return [letter for letter in named if letter in letters]


def _repeated(text: str, options: Sequence[str], occurs: Callable[[str, str], bool]) -> str | None:
    """The letter of the one option whose text the answer repeats. An option that is part of another that is repeated
    too does not count: "1911" beside "in 1911, by Ann Lee"."""
    repeated = [index for index, option in enumerate(options) if occurs(option, text)]
    longest = []
    for index in repeated:
        is_part = any(occurs(options[index], options[other]) for other in repeated if other != index)
        if not is_part:
            longest.append(index)
    return LETTERS[longest[0]] if len(longest) == 1 else None
