"""The rules of the rule-based judge: what each of its tasks replies, from texts of the generated world alone.

Pure functions from the values of a prompt to the text of a reply. They know nothing of which answer is right: what
they say comes from the passages, notes and answers that they are shown. A sentence that a chunk's border cuts in two
is read where both halves are shown together, and is lost where they are not, as for notes on single parts. Leaves out
every text that is not the world's: such a question is judged by the names that it shares with the answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from tasks.microworld.parsing import (
    Asked,
    Claim,
    Said,
    kind_of,
    names_in,
    read_answer,
    read_claim,
    read_fact,
    read_facts,
    read_question,
    relation_between,
    sentences,
)
from tasks.microworld.phrases import RELATIONS
from tasks.microworld.world import Fact

NO_FACTS, NO_NOTES = "No factual statements", "No relevant information"
FULL, PARTIAL, NONE = "[[Fully supported]]", "[[Partially supported]]", "[[No support]]"
_BREAK = re.compile(r"(?<![.?!\n])\n\n(?!Passage )")  # where two chunks meet in the middle of a sentence
_STEPS = 0.3  # share of a full answer of several hops that the steps on the way are worth together

Facts = Sequence[Fact]


def notes(part: str, question: str) -> str:
    """The sentences of a part that bear on the question, or that there are none."""
    asked = read_question(question)
    stated = [(each, fact) for each in sentences(part) if (fact := read_fact(each)) is not None]
    facts = [fact for _, fact in stated]
    if asked is None:
        wanted = set(names_in(question))
        kept = [each for each in sentences(part) if wanted & set(names_in(each))]
    else:
        kept = [each for each, fact in stated if _bears_on(fact, asked, facts)]
    return "\n".join(dict.fromkeys(kept)) or NO_NOTES


def chained_notes(part: str, question: str) -> str:
    """The facts that a part alone leads to from what the question names, in plain words: the judge model's truth.

    A canonical sentence for each: hop by hop for a chain, in reading order for a list. Narrower than `notes`: where the
    part does not state a hop, what it states on later ones is left out, for nothing in the part says whose it is.
    """
    asked = read_question(question)
    if asked is None:
        return notes(part, question)
    known = read_facts(part)
    if asked.list:
        kept = [fact for fact in known if _bears_on(fact, asked, known)]
    else:
        reached, kept = {asked.about}, []
        for hop in asked.hops:
            step = [fact for fact in known if fact.relation == hop and fact.subject in reached]
            kept += step
            reached = {fact.value for fact in step}
    return "\n".join(dict.fromkeys(fact.sentence for fact in kept)) or NO_NOTES


def facts(question: str, answer: str) -> str:
    """Every fact that the answer states, its final answer included, as self-contained statements."""
    said, asked = read_answer(answer), read_question(question)
    claims = [Claim(fact.subject, (fact.relation,), fact.value) for fact in said.facts]
    claims += _final_claims(said, asked) if asked else []
    stated = dict.fromkeys(claim.sentence for claim in claims)
    return "\n".join(f"<statement>{each}</statement>" for each in stated) or NO_FACTS


def support(passages: str, statement: str) -> str:
    """Whether the passages state what the statement says."""
    known = read_facts(_BREAK.sub(" ", passages))
    claim = read_claim(statement)
    if claim is None:
        return FULL if statement.strip() and statement.strip() in passages else NONE
    return {1.0: FULL, 0.0: NONE}.get(_supported(claim, known), PARTIAL)


def stated_values(passages: str, claim: Claim) -> list[str]:
    """What the passages state where the claim has its value, in a fixed order."""
    return sorted(_follow(claim.subject, claim.hops, read_facts(_BREAK.sub(" ", passages)))[-1])


def completeness(noted: str, question: str, answer: str) -> float:
    """How much of what the notes hold on the question the answer gives: 0 to 10."""
    asked, said = read_question(question), read_answer(answer)
    known = read_facts(noted)
    if asked is None:
        wanted = set(names_in(noted)) - set(names_in(question))
        return 10 * _share(wanted, names_in(answer))
    if not known:
        return 0.0 if said.final else 10.0  # all there is to say is that the text does not tell
    if asked.list:
        items = _items(asked, known)
        given = _share(items, said.final)
        in_prose = _share(items, [name for fact in said.facts for name in (fact.subject, fact.value)])
        return 10 * max(given, in_prose / 2) if items else 0.0
    return 10 * _chain_share(asked, said, known)


def helpfulness(question: str, answer: str) -> float:
    """Whether the answer ends with an answer of the right kind, in the asked form, on the subject: 0 to 10."""
    asked, said = read_question(question), read_answer(answer)
    if not answer.strip():
        return 0.0
    if asked is None:
        return 10 * _share(set(names_in(question)), names_in(answer)) if names_in(question) else 5.0
    right_kind = [name for name in said.final if _fits(name, asked)]
    score = 1 + 4 * len(right_kind) / max(len(said.final), 1)
    if right_kind:
        once = len(set(said.final)) == len(said.final)
        count = len(said.final) >= 2 if asked.list else len(said.final) == 1
        score += 2 if count and once else 1 if count or once else 0
    score += 1 if said.final and said.whole and (said.labelled or not said.prose) else 0
    about = any(asked.about in (fact.subject, fact.value) for fact in said.facts)
    return score + (2 if about else 1 if asked.about in names_in(answer) else 0)


def logicality(question: str, answer: str) -> float:
    """Whether the hops chain, the final answer follows from the sentences before it, nothing contradicts: 0 to 10."""
    asked, said = read_question(question), read_answer(answer)
    if not said.facts:
        return 7.0 if said.final and not said.prose else 2.0
    score = 10.0
    values: dict[tuple[str, str], set[str]] = {}
    for fact in said.facts:
        values.setdefault((fact.subject, fact.relation), set()).add(fact.value)
    score -= 3 if any(len(each) > 1 for each in values.values()) else 0
    score -= 1 if len(set(said.facts)) < len(said.facts) else 0
    score -= 0 if said.whole else 1
    if not said.final:
        return max(score - 5, 0.0)
    if asked is None:
        ends = {name for fact in said.facts for name in (fact.subject, fact.value)}
        return max(score - 4 * (1 - _share(set(said.final), ends)), 0.0)
    return max(score - _leaps(asked, said), 0.0)


def quality(question: str, answer: str) -> float:
    """Overall quality without the context: the mean of helpfulness and logicality."""
    return (helpfulness(question, answer) + logicality(question, answer)) / 2


def self_evaluation(document: str, question: str, answer: str) -> float:
    """Right and complete by the document."""
    return completeness(notes(document, question), question, answer)


def pairwise(question: str, first: str, second: str) -> str:
    """The label of the answer of higher quality."""
    one, other = quality(question, first), quality(question, second)
    return "[[C]]" if math.isclose(one, other) else "[[A]]" if one > other else "[[B]]"


def _bears_on(fact: Fact, asked: Asked, in_part: Facts) -> bool:
    if asked.everything:
        return fact.subject == asked.about
    if asked.list:
        return (fact.relation, fact.value) == (asked.hops[0], asked.about)
    subjects: set[str] | None = {asked.about}
    for hop in asked.hops:
        if fact.relation == hop and (subjects is None or fact.subject in subjects):
            return True
        # a part that does not name a link cannot tell which of all will be needed from there on
        subjects = (subjects and _ends(subjects, hop, in_part)) or None
    return False


def _final_claims(said: Said, asked: Asked) -> list[Claim]:
    """The final answer put as statements; what cannot be put so is left out."""
    if asked.everything:
        between = [(name, relation_between(asked.about, name)) for name in said.final]
        return [Claim(asked.about, (relation,), name) for name, relation in between if relation]
    if asked.list:
        return [Claim(name, asked.hops, asked.about) for name in said.final]
    hops, subject = asked.hops, asked.about
    while len(hops) > 1 and (links := _values(subject, hops[0], said.facts)):
        hops, subject = hops[1:], links[-1]  # the answer names the link itself
    return [Claim(subject, hops, name) for name in said.final]


def _supported(claim: Claim, known: Facts) -> float:
    """1 when the facts state the claim, 0 when they do not, between when they state a part of it."""
    if len(claim.hops) == 1:
        stated = _values(claim.subject, claim.hops[0], known)
        if claim.value in stated:
            return 1.0
        return max((_alike(claim.value, each) for each in stated), default=0.0)
    *links, ends = _follow(claim.subject, claim.hops, known)
    if claim.value in ends:
        return 1.0
    ends_so = any((fact.relation, fact.value) == (claim.hops[-1], claim.value) for fact in known)
    return 0.5 if ends_so and not links[-1] else 0.0  # the last step is stated, and the way to it is not


def _alike(name: str, other: str) -> float:
    """Share of words of two names of several words that agree."""
    words, others = name.split(), other.split()
    return sum(word in others for word in words) / max(len(words), len(others))


def _items(asked: Asked, known: Facts) -> set[str]:
    if asked.everything:
        return {fact.value for fact in known if fact.subject == asked.about}
    return {fact.subject for fact in known if (fact.relation, fact.value) == (asked.hops[0], asked.about)}


def _chain_share(asked: Asked, said: Said, known: Facts) -> float:
    """Share of a hop question's steps that the answer gives as the notes have them; the end weighs most."""
    *links, ends = _follow(asked.about, asked.hops, known)
    if not links:
        return _end_share(ends, said, asked.hops[0])
    given = {fact.value for fact in said.facts}
    noted = [each for each in links if each]
    steps = sum(bool(each & given) for each in noted) / len(noted) if noted else 0.0
    if ends:
        end = _end_share(ends, said, asked.hops[-1])
        if end == 1 and not said.prose:  # the end alone is what was asked for
            return 1.0
        return (1 - _STEPS) * end + _STEPS * steps
    if noted:
        return steps
    # The notes do not name a link: an answer whose end fits one of the notes gives all that can be told.
    possible = {fact.value for fact in known if fact.relation == asked.hops[-1]}
    return (1 - _STEPS) * _end_share(possible, said, asked.hops[-1])


def _end_share(right: set[str], said: Said, relation: str) -> float:
    if not right:
        return 0.0
    if set(said.final) & right:
        return 1.0 if len(set(said.final)) == 1 else 1 / len(set(said.final))
    return 0.4 if right & {fact.value for fact in said.facts if fact.relation == relation} else 0.0


def _leaps(asked: Asked, said: Said) -> float:
    """What is to be taken off for steps that do not follow."""
    lost = 0.0
    if asked.list:
        reached = _items(asked, said.facts)
        lost += 4 * (1 - _share(set(said.final), reached)) + 2 * (1 - _share(reached, said.final) if reached else 1)
        return lost
    steps = _follow(asked.about, asked.hops, said.facts)
    ends = steps[-1]
    lost += 0 if steps[0] else 2  # does not begin where the question does
    lost += 0 if ends else 2  # does not go on from there to the end
    if not set(said.final) <= ends:
        lost += 1 if set(said.final) <= {fact.value for fact in said.facts} else 4
    planned = tuple(RELATIONS[hop].noun for hop in asked.hops)
    lost += 1 if said.plan is not None and said.plan != planned else 0
    return lost


def _follow(subject: str, hops: Sequence[str], known: Facts) -> list[set[str]]:
    """What the facts lead to from a subject, hop by hop; nothing from where they break off."""
    reached = [{subject}]
    for hop in hops:
        reached.append(_ends(reached[-1], hop, known))
    return reached[1:]


def _ends(links: Iterable[str], relation: str, known: Facts) -> set[str]:
    return {value for link in links for value in _values(link, relation, known)}


def _fits(name: str, asked: Asked) -> bool:
    """Whether a name is of a kind that the question can be answered with."""
    if asked.everything:
        return relation_between(asked.about, name) is not None
    relation = RELATIONS[asked.hops[-1]]
    return kind_of(name) == (relation.subject_kind if asked.list else relation.value_kind)


def _values(subject: str, relation: str, known: Facts) -> list[str]:
    return [fact.value for fact in known if (fact.subject, fact.relation) == (subject, relation)]


def _share(wanted: set[str], given: Iterable[str]) -> float:
    """Share of what is wanted that is given; nothing wanted is all given."""
    return len(wanted & set(given)) / len(wanted) if wanted else 1.0
