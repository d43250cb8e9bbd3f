"""The microworld's English read back: sentences into facts, questions into what they ask, answers into what they say.

Every template of `phrases` is kept as a skeleton, its names replaced by slots; a text is read by replacing its names
and looking its skeleton up. Names are read whatever their kind, so that a false sentence ("The home of Alvira is
potter.") is read as the claim that it is. What it leaves out: every sentence that the templates cannot make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from tasks.microworld.phrases import ABOUT, LEADS, RELATIONS
from tasks.microworld.words import GOODS, JOB, NAMES
from tasks.microworld.world import Fact

_SLOT = "{}"
_WORDS = {word: kind for kind, words in NAMES.items() for word in words}
_WORD = "|".join(sorted(_WORDS, key=len, reverse=True))
_CAPITAL = "|".join(sorted((word for word, kind in _WORDS.items() if kind not in (JOB, GOODS)), key=len, reverse=True))
_NAME = re.compile(rf"\b(?:(?:{_CAPITAL})(?: (?:{_CAPITAL})){{1,2}}|{_WORD})\b")  # in large worlds of 2 or 3 words
_LEAD = re.compile(rf"^(?:{'|'.join(map(re.escape, LEADS))})\s+")
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+|\n+")
_ANSWER = re.compile(r"(?:^|\s)Answer:")
_LABEL = re.compile(r"^(?:Facts|Reflection|Answer|Plan):\s*")
_PLAN = re.compile(r"^\s*(?:Plan: find|I need to find) (.*?)\.\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Asked:
    """What a question wants.

    `hops`: relations from the first to the last, three at most; the last one's value is wanted. A list question has
    one hop and wants its subjects of the value `about`; or none, and wants everything of the entity `about`.
    """

    about: str
    hops: tuple[str, ...]
    list: bool = False

    @property
    def everything(self) -> bool:
        """True for "What does the text say about X?"."""
        return self.list and not self.hops


@dataclass(frozen=True)
class Claim:
    """What a statement says: from `subject` along `hops` one comes to `value`. One hop: a plain fact."""

    subject: str
    hops: tuple[str, ...]
    value: str

    @property
    def sentence(self) -> str:
        """The claim in canonical words: "The home of the mentor of Alvira is Dunvale."."""
        inner = "".join(f"the {RELATIONS[hop].noun} of " for hop in reversed(self.hops[:-1]))
        return RELATIONS[self.hops[-1]].sentence(inner + self.subject, self.value)


@dataclass(frozen=True)
class Said:
    """An answer: the facts that its sentences state, in order; the names of its final answer; how it is built."""

    facts: tuple[Fact, ...]
    final: tuple[str, ...]
    labelled: bool  # ends with an answer line
    whole: bool  # does not break off
    plan: tuple[str, ...] | None  # nouns of its plan, if it makes one
    prose: bool  # has text besides the final answer


def names_in(text: str) -> tuple[str, ...]:
    """Names of the world in a text, in order, with repetitions."""
    return tuple(_NAME.findall(text))


def kind_of(name: str) -> str | None:
    """The kind of entity that a name belongs to."""
    return _WORDS.get(name.split()[0]) if name else None


def sentences(text: str) -> list[str]:
    """The sentences of a text; a line ends one."""
    return [each for part in _SENTENCE_END.split(text) if (each := part.strip())]


@lru_cache(maxsize=4096)  # passages are read again for every statement on them
def read_fact(sentence: str) -> Fact | None:
    """The fact that one sentence states, in any of the world's words; None when it states none."""
    bare = _LEAD.sub("", sentence.strip())
    found = _fact_skeletons().get(_NAME.sub(_SLOT, bare))
    if found is None:
        return None
    relation, value_first = found
    subject, value = names_in(bare)[:: -1 if value_first else 1]
    return Fact(subject, relation, value)


def read_facts(text: str) -> tuple[Fact, ...]:
    """The facts that a text states, each once, in order."""
    found = (read_fact(each) for each in sentences(text))
    return tuple(dict.fromkeys(fact for fact in found if fact is not None))


def read_claim(statement: str) -> Claim | None:
    """What a statement says, also in the words of several hops; None when it cannot be read."""
    bare = _LABEL.sub("", statement.strip())
    if (fact := read_fact(bare)) is not None:
        return Claim(fact.subject, (fact.relation,), fact.value)
    names = names_in(bare)
    hops = _claim_skeletons().get(_NAME.sub(_SLOT, bare))
    return None if hops is None else Claim(names[0], hops, names[1])


def read_question(question: str) -> Asked | None:
    """What a question asks for; None when it is none of the world's."""
    text = question.strip()
    names = names_in(text)
    found = _question_skeletons().get(_NAME.sub(_SLOT, text))
    if found is None or len(names) != 1:
        return None
    hops, is_list = found
    return Asked(names[0], hops, is_list)


def read_answer(text: str) -> Said:
    """What an answer says. Without an answer line, an answer that states no fact is the final answer itself."""
    head, final = text, ""
    marks = list(_ANSWER.finditer(text))
    if marks:
        head, final = text[: marks[-1].start()], text[marks[-1].end() :]
    facts = tuple(fact for each in sentences(head) if (fact := read_fact(_LABEL.sub("", each))) is not None)
    plan = _PLAN.search(head)
    bare = not marks and not facts and plan is None
    return Said(
        facts,
        names_in(text if bare else final),
        labelled=bool(marks) and bool(final.strip()),
        whole=_is_whole(head, final if marks else text, bool(marks)),
        plan=tuple(re.findall(r"the (\w+)", plan.group(1))) if plan else None,
        prose=bool(head.strip()) and not bare,
    )


def relation_between(subject: str, value: str) -> str | None:
    """The one relation by which an entity of this kind has a value of that kind."""
    kinds = kind_of(subject), kind_of(value)
    return next((name for name, each in RELATIONS.items() if (each.subject_kind, each.value_kind) == kinds), None)


def _is_whole(head: str, final: str, labelled: bool) -> bool:
    """Every line of the head ends its sentence, and the answer does not break off after "and" or a comma."""
    lines = [line.strip() for line in head.splitlines() if line.strip()] if labelled else []
    return all(line[-1] in ".:!?" for line in lines) and not re.search(r"(,|\band)\s*$", final)


def _skeleton(template: str) -> str:
    return re.sub(r"\{[sv]\}", _SLOT, template)


@cache
def _fact_skeletons() -> dict[str, tuple[str, bool]]:
    """Skeleton of each sentence -> its relation, and whether the value stands first."""
    return {
        _skeleton(template): (name, template.index("{v}") < template.index("{s}"))
        for name, relation in RELATIONS.items()
        for template in (relation.sentence("{s}", "{v}"), *relation.statements, *relation.echoes)
    }


def _chains(length: int) -> list[tuple[str, ...]]:
    """Relations that can follow each other, so many in a row."""
    if length == 1:
        return [(name,) for name in RELATIONS]
    return [
        (*inner, outer)
        for inner in _chains(length - 1)
        for outer, relation in RELATIONS.items()
        if RELATIONS[inner[-1]].value_kind == relation.subject_kind
    ]


@cache
def _claim_skeletons() -> dict[str, tuple[str, ...]]:
    return {Claim(_SLOT, hops, _SLOT).sentence: hops for length in (2, 3) for hops in _chains(length)}


@cache
def _question_skeletons() -> dict[str, tuple[tuple[str, ...], bool]]:
    """Skeleton of each question -> its hops, and whether it asks for a list."""
    known: dict[str, tuple[tuple[str, ...], bool]] = {template.format(s=_SLOT): ((), True) for template in ABOUT}
    for name, relation in RELATIONS.items():
        known |= {template.format(v=_SLOT): ((name,), True) for template in relation.list_questions}
        known |= {template.format(s=_SLOT): ((name,), False) for template in relation.questions}
    for hops in (*_chains(2), *_chains(3)):
        for phrase in _phrases(hops[:-1]):
            known |= {template.format(s=phrase): (hops, False) for template in RELATIONS[hops[-1]].questions}
    return known


def _phrases(hops: Sequence[str]) -> Iterable[str]:
    """How a question names an entity by the way to it from another."""
    first, *others = (RELATIONS[hop].noun for hop in hops)
    outer = "".join(f"the {noun} of " for noun in reversed(others))
    return f"{outer}the {first} of {_SLOT}", f"{outer}{_SLOT}'s {first}"
