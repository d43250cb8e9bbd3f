"""Reads the microworld's English: sentences as facts, questions as what they ask, answers as what they state.

Every template is turned into a pattern in which a slot stands for each name. To read a text, its names are replaced by
slots too, and the result is looked up among the patterns. Names are read whatever their kind, so that a false sentence
("The home of Alvira is potter.") is read as the claim that it makes. Sentences that no template can make are not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from tasks.microworld.words import ABOUT, GOODS, JOB, LEADS, NAMES, RELATIONS
from tasks.microworld.world import Fact

_SLOT = "{}"
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+|\n+")
_ANSWER = re.compile(r"(?:^|\s)Answer:")
_LABEL = re.compile(r"^(?:Facts|Reflection|Answer|Plan):\s*")
_PLAN = re.compile(r"^\s*(?:Plan: find|I need to find) (.*?)\.\s*$", re.MULTILINE)
_LEAD = re.compile(rf"^(?:{'|'.join(map(re.escape, LEADS))})\s+")


def _kinds_of_words() -> dict[str, str]:
    kinds: dict[str, str] = {}
    for kind, words in NAMES.items():
        kinds |= dict.fromkeys(words, kind)
    return kinds


_KIND_OF_WORD = _kinds_of_words()


def _name_pattern() -> re.Pattern[str]:
    """One word of any kind, or a name of two or three capitalised words, as in large worlds."""
    words = sorted(_KIND_OF_WORD, key=len, reverse=True)
    capitalised = "|".join(word for word in words if _KIND_OF_WORD[word] not in (JOB, GOODS))
    return re.compile(rf"\b(?:(?:{capitalised})(?: (?:{capitalised})){{1,2}}|{'|'.join(words)})\b")


_NAME = _name_pattern()


@dataclass(frozen=True)
class ParsedQuestion:
    """What a question asks for.

    `hops`: relations from the first to the last, at most three; the answer is the value of the last one. A list
    question has one hop and asks for all subjects with the value `about`; or it has none and asks for all values of the
    entity `about`.
    """

    about: str
    hops: tuple[str, ...]
    is_list: bool = False

    @property
    def asks_all_values(self) -> bool:
        """True for "What does the text say about X?"."""
        return self.is_list and not self.hops


@dataclass(frozen=True)
class ParsedClaim:
    """What a statement says: `hops` lead from `subject` to `value`. With one hop it is a plain fact."""

    subject: str
    hops: tuple[str, ...]
    value: str

    @property
    def sentence(self) -> str:
        """The claim in canonical words: "The home of the mentor of Alvira is Dunvale."."""
        subject = self.subject
        for hop in self.hops[:-1]:
            subject = f"the {RELATIONS[hop].noun} of {subject}"
        return RELATIONS[self.hops[-1]].sentence(subject, self.value)


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer states: the facts of its sentences, in order; the names of its final answer; and its form."""

    facts: tuple[Fact, ...]
    final: tuple[str, ...]
    has_answer_line: bool
    is_complete: bool  # does not break off
    plan: tuple[str, ...] | None  # the nouns of its plan, None without a plan
    has_reasoning: bool  # there is text before the final answer


def names_in(text: str) -> tuple[str, ...]:
    """The names of the world in a text, in order, with repetitions."""
    return tuple(_NAME.findall(text))


def kind_of(name: str) -> str | None:
    """The kind of entity that a name belongs to; None for what is no name."""
    return _KIND_OF_WORD.get(name.split()[0]) if name else None


def sentences(text: str) -> list[str]:
    """The sentences of a text; a line ends one too."""
    stripped = map(str.strip, _SENTENCE_END.split(text))
    return [sentence for sentence in stripped if sentence]


_LONGEST_SENTENCE = 1_000  # characters; no sentence of the world is nearly as long, and a longer text takes seconds


@lru_cache(maxsize=4096)  # the same passages are read again for every statement about them
def read_fact(sentence: str) -> Fact | None:
    """The fact that one sentence states; None when it states none."""
    if len(sentence) > _LONGEST_SENTENCE:
        return None
    sentence = _LEAD.sub("", sentence.strip())
    pattern = _fact_patterns().get(_NAME.sub(_SLOT, sentence))
    if pattern is None:
        return None
    relation, value_is_first = pattern
    first, second = names_in(sentence)
    return Fact(second, relation, first) if value_is_first else Fact(first, relation, second)


def read_facts(text: str) -> tuple[Fact, ...]:
    """The facts that a text states, each once, in order."""
    facts: dict[Fact, None] = {}
    for sentence in sentences(text):
        fact = read_fact(sentence)
        if fact is not None:
            facts[fact] = None
    return tuple(facts)


def read_claim(statement: str) -> ParsedClaim | None:
    """What a statement of one, two or three hops says; None when it cannot be read."""
    statement = _LABEL.sub("", statement.strip())
    fact = read_fact(statement)
    if fact is not None:
        return ParsedClaim(fact.subject, (fact.relation,), fact.value)
    hops = _claim_patterns().get(_NAME.sub(_SLOT, statement))
    if hops is None:
        return None
    names = names_in(statement)
    return ParsedClaim(names[0], hops, names[1])


def read_question(question: str) -> ParsedQuestion | None:
    """What a question asks for; None when it is none of the world's questions."""
    question = question.strip()
    names = names_in(question)
    pattern = _question_patterns().get(_NAME.sub(_SLOT, question))
    if pattern is None or len(names) != 1:
        return None
    hops, is_list = pattern
    return ParsedQuestion(names[0], hops, is_list)


def read_answer(text: str) -> ParsedAnswer:
    """What an answer states. Without an answer line, an answer that states no fact is the final answer itself."""
    reasoning, final = text, ""
    answer_marks = list(_ANSWER.finditer(text))
    if answer_marks:
        reasoning, final = text[: answer_marks[-1].start()], text[answer_marks[-1].end() :]
    facts = []
    for sentence in sentences(reasoning):
        fact = read_fact(_LABEL.sub("", sentence))
        if fact is not None:
            facts.append(fact)
    plan = _PLAN.search(reasoning)
    is_final_answer_only = not answer_marks and not facts and plan is None
    return ParsedAnswer(
        tuple(facts),
        names_in(text if is_final_answer_only else final),
        has_answer_line=bool(answer_marks) and bool(final.strip()),
        is_complete=_is_complete(reasoning, final) if answer_marks else _ends_well(text),
        plan=tuple(re.findall(r"the (\w+)", plan.group(1))) if plan else None,
        has_reasoning=bool(reasoning.strip()) and not is_final_answer_only,
    )


def relation_between(subject: str, value: str) -> str | None:
    """The one relation by which an entity of this kind has a value of that kind; None if there is none."""
    subject_kind, value_kind = kind_of(subject), kind_of(value)
    for name, relation in RELATIONS.items():
        if (relation.subject_kind, relation.value_kind) == (subject_kind, value_kind):
            return name
    return None


def _is_complete(reasoning: str, final: str) -> bool:
    """Every line of the reasoning ends its sentence, and the final answer does not break off."""
    for line in reasoning.splitlines():
        if line.strip() and line.strip()[-1] not in ".:!?":
            return False
    return _ends_well(final)


def _ends_well(text: str) -> bool:
    """The text does not break off after "and" or a comma."""
    return not re.search(r"(,|\band)\s*$", text)


@cache
def _fact_patterns() -> dict[str, tuple[str, bool]]:
    """The pattern of each sentence -> its relation, and whether the value stands before the subject."""
    patterns: dict[str, tuple[str, bool]] = {}
    for name, relation in RELATIONS.items():
        for template in (relation.sentence("{s}", "{v}"), *relation.statements, *relation.echoes):
            value_is_first = template.index("{v}") < template.index("{s}")
            patterns[re.sub(r"\{[sv]\}", _SLOT, template)] = (name, value_is_first)
    return patterns


def _hop_chains(length: int) -> list[tuple[str, ...]]:
    """All chains of so many relations in which each can follow the one before."""
    if length == 1:
        return [(name,) for name in RELATIONS]
    chains: list[tuple[str, ...]] = []
    for chain in _hop_chains(length - 1):
        for name, relation in RELATIONS.items():
            if RELATIONS[chain[-1]].value_kind == relation.subject_kind:
                chains.append((*chain, name))
    return chains


@cache
def _claim_patterns() -> dict[str, tuple[str, ...]]:
    """The pattern of each statement of two or three hops -> its hops."""
    patterns = {}
    for hops in (*_hop_chains(2), *_hop_chains(3)):
        patterns[ParsedClaim(_SLOT, hops, _SLOT).sentence] = hops
    return patterns


@cache
def _question_patterns() -> dict[str, tuple[tuple[str, ...], bool]]:
    """The pattern of each question -> its hops, and whether it asks for a list."""
    patterns: dict[str, tuple[tuple[str, ...], bool]] = {}
    for template in ABOUT:
        patterns[template.format(s=_SLOT)] = ((), True)
    for name, relation in RELATIONS.items():
        for template in relation.list_questions:
            patterns[template.format(v=_SLOT)] = ((name,), True)
        for template in relation.questions:
            patterns[template.format(s=_SLOT)] = ((name,), False)
    for hops in (*_hop_chains(2), *_hop_chains(3)):
        for phrase in _chain_phrases(hops[:-1]):
            for template in RELATIONS[hops[-1]].questions:
                patterns[template.format(s=phrase)] = (hops, False)
    return patterns


def _chain_phrases(hops: Sequence[str]) -> tuple[str, str]:
    """The two ways in which a question names an entity by the hops to it from another."""
    noun = RELATIONS[hops[0]].noun
    plain, genitive = f"the {noun} of {_SLOT}", f"{_SLOT}'s {noun}"
    for hop in hops[1:]:
        outer = f"the {RELATIONS[hop].noun} of "
        plain, genitive = outer + plain, outer + genitive
    return plain, genitive
