"""The rules of the rule-based judge: what it replies to each of its tasks, from texts of the generated world alone.

Pure functions from the values of a prompt to the text of a reply, or to a rating. They do not know which answer is
right: all they use is the passages, notes and answers that they get. A sentence that is cut in two by the border of a
chunk is read where both halves stand together, and lost where they do not, as in notes on single parts. A question that
is none of the world's is judged by the names that it shares with the answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence

from tasks.microworld.parsing import (
    ParsedAnswer,
    ParsedClaim,
    ParsedQuestion,
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
from tasks.microworld.words import RELATIONS
from tasks.microworld.world import Fact, entities_of, facts_about, sentences_of, values_of

NO_FACTS, NO_NOTES = "No factual statements", "No relevant information"
FULL, PARTIAL, NONE = "[[Fully supported]]", "[[Partially supported]]", "[[No support]]"
_BREAK = re.compile(r"(?<![.?!\n])\n\n(?!Passage )")  # where two chunks meet in the middle of a sentence
_STEPS_SHARE = 0.3  # share of a full answer of several hops that the steps before the last are worth together

Facts = Sequence[Fact]


def notes(part: str, question: str) -> str:
    """The sentences of a part of a document that help to answer the question, or that there are none."""
    parsed = read_question(question)
    stated = read_facts(part)
    names_of_question = set(names_in(question))
    relevant: dict[str, None] = {}
    for sentence in sentences(part):
        if parsed is None:
            is_relevant = not names_of_question.isdisjoint(names_in(sentence))
        else:
            fact = read_fact(sentence)
            is_relevant = fact is not None and _is_relevant(fact, parsed, stated)
        if is_relevant:
            relevant[sentence] = None
    return "\n".join(relevant) or NO_NOTES


def chained_notes(part: str, question: str) -> str:
    """The facts to which a part alone leads from the entity of the question, in canonical sentences.

    Hop by hop for a chain, in reading order for a list: these are the notes that the judge model is taught. They are
    fewer than those of `notes`: where the part does not state a hop, facts on later hops are left out, because nothing
    in the part says that they belong to the question.
    """
    parsed = read_question(question)
    if parsed is None:
        return notes(part, question)
    stated = read_facts(part)
    if parsed.is_list:
        relevant = [fact for fact in stated if _is_relevant(fact, parsed, stated)]
    else:
        relevant = []
        subjects = {parsed.about}
        for hop in parsed.hops:
            values = set()
            for fact in stated:
                if fact.relation == hop and fact.subject in subjects:
                    relevant.append(fact)
                    values.add(fact.value)
            subjects = values
    return "\n".join(dict.fromkeys(sentences_of(relevant))) or NO_NOTES


def facts(question: str, answer: str) -> str:
    """Every fact that the answer states, its final answer included, as self-contained statements."""
    parsed_answer, parsed = read_answer(answer), read_question(question)
    statements = dict.fromkeys(sentences_of(parsed_answer.facts))
    if parsed is not None:
        for claim in _final_claims(parsed_answer, parsed):
            statements[claim.sentence] = None
    return "\n".join(f"<statement>{statement}</statement>" for statement in statements) or NO_FACTS


def sentence_facts(question: str, answer: str) -> str:
    """The facts of the answer's sentences, each of which states one; those of its final answer where there is no other.

    What the final answer says follows from the sentences before it.
    """
    statements = dict.fromkeys(sentences_of(read_answer(answer).facts))
    if not statements:
        return facts(question, answer)
    return "\n".join(f"<statement>{statement}</statement>" for statement in statements)


def support(passages: str, statement: str) -> str:
    """The label that says whether the passages state what the statement says."""
    claim = read_claim(statement)
    if claim is None:
        return FULL if statement.strip() and statement.strip() in passages else NONE
    share = _supported_share(claim, _facts_of_passages(passages))
    if share == 1:
        return FULL
    return NONE if share == 0 else PARTIAL


def stated_values(passages: str, claim: ParsedClaim) -> list[str]:
    """The values to which the passages lead from the claim's subject by its hops, in a fixed order."""
    return values_by_hops(claim.subject, claim.hops, _facts_of_passages(passages))


def values_by_hops(subject: str, hops: Sequence[str], stated: Facts) -> list[str]:
    """The values to which facts lead from a subject by hops, in a fixed order."""
    return sorted(_follow(subject, hops, stated)[-1])


def completeness(note_text: str, question: str, answer: str) -> float:
    """How much of what the notes say on the question is in the answer: 0 to 10."""
    parsed, parsed_answer = read_question(question), read_answer(answer)
    stated = read_facts(note_text)
    if parsed is None:
        return 10 * _share_in(set(names_in(note_text)) - set(names_in(question)), names_in(answer))
    if not stated:
        return 0.0 if parsed_answer.final else 10.0  # the complete answer is that the text does not say
    if not parsed.is_list:
        return 10 * _chain_share(parsed, parsed_answer, stated)
    items = _list_items(parsed, stated)
    if not items:
        return 0.0
    in_final = _share_in(items, parsed_answer.final)
    in_reasoning = _share_in(items, entities_of(parsed_answer.facts))
    return 10 * max(in_final, in_reasoning / 2)


def helpfulness(question: str, answer: str) -> float:
    """Whether the final answer has the right kind and form, and the answer names the question's entity: 0 to 10."""
    parsed, parsed_answer = read_question(question), read_answer(answer)
    if not answer.strip():
        return 0.0
    if parsed is None:
        names = names_in(question)
        return 10 * _share_in(set(names), names_in(answer)) if names else 5.0
    final = parsed_answer.final
    of_right_kind = [name for name in final if _is_possible_answer(name, parsed)]
    score = 1 + 4 * len(of_right_kind) / max(len(final), 1)
    if of_right_kind:
        has_no_repetition = len(set(final)) == len(final)
        has_right_number = len(final) >= 2 if parsed.is_list else len(final) == 1
        score += has_no_repetition or has_right_number
        score += has_no_repetition and has_right_number
    if final and parsed_answer.is_complete and (parsed_answer.has_answer_line or not parsed_answer.has_reasoning):
        score += 1
    if parsed.about in entities_of(parsed_answer.facts):
        return score + 2
    return score + 1 if parsed.about in names_in(answer) else score


def logicality(question: str, answer: str) -> float:
    """Whether the steps follow from each other, the answer follows from them, and nothing contradicts: 0 to 10."""
    parsed, parsed_answer = read_question(question), read_answer(answer)
    if not parsed_answer.facts:
        return 7.0 if parsed_answer.final and not parsed_answer.has_reasoning else 2.0
    score = 10.0
    if _has_contradiction(parsed_answer.facts):
        score -= 3
    if len(set(parsed_answer.facts)) < len(parsed_answer.facts):
        score -= 1
    if not parsed_answer.is_complete:
        score -= 1
    if not parsed_answer.final:
        return max(score - 5, 0.0)
    if parsed is None:
        return max(score - 4 * (1 - _share_in(set(parsed_answer.final), entities_of(parsed_answer.facts))), 0.0)
    if parsed.is_list:
        return max(score - _list_penalty(parsed, parsed_answer), 0.0)
    return max(score - _chain_penalty(parsed, parsed_answer), 0.0)


def quality(question: str, answer: str) -> float:
    """Overall quality without the context: the mean of helpfulness and logicality."""
    return (helpfulness(question, answer) + logicality(question, answer)) / 2


def self_evaluation(document: str, question: str, answer: str) -> float:
    """Right and complete by the document: 0 to 10."""
    return completeness(notes(document, question), question, answer)


def pairwise(question: str, first: str, second: str) -> str:
    """The label of the answer of higher quality."""
    first_quality, second_quality = quality(question, first), quality(question, second)
    if math.isclose(first_quality, second_quality):
        return "[[C]]"
    return "[[A]]" if first_quality > second_quality else "[[B]]"


def same_answer(question: str, reference: str, answer: str) -> str:
    """Whether two answers name the same; those that name nothing of the world are the same in their words alone."""
    names = [set(read_answer(text).final) - set(names_in(question)) for text in (reference, answer)]
    same = names[0] == names[1] if any(names) else reference.strip() == answer.strip()
    return "[[True]]" if same else "[[False]]"


def _facts_of_passages(passages: str) -> Facts:
    return read_facts(_BREAK.sub(" ", passages))


def _is_relevant(fact: Fact, question: ParsedQuestion, stated: Facts) -> bool:
    """Whether a fact may be needed for the question, judging by what its part of the document states."""
    if question.asks_all_values:
        return fact.subject == question.about
    if question.is_list:
        return (fact.relation, fact.value) == (question.hops[0], question.about)
    subjects = {question.about}
    for hop in question.hops:
        # without a subject, the part does not say which entity this hop starts from: it may be any
        if fact.relation == hop and (not subjects or fact.subject in subjects):
            return True
        subjects = _values_of_all(subjects, hop, stated)
    return False


def _final_claims(answer: ParsedAnswer, question: ParsedQuestion) -> list[ParsedClaim]:
    """The final answer as statements; names that cannot be an answer to a question for all values are left out."""
    claims = []
    if question.asks_all_values:
        for name in answer.final:
            relation = relation_between(question.about, name)
            if relation is not None:
                claims.append(ParsedClaim(question.about, (relation,), name))
        return claims
    if question.is_list:
        return [ParsedClaim(name, question.hops, question.about) for name in answer.final]
    hops, subject = question.hops, question.about
    while len(hops) > 1:
        values = _values(subject, hops[0], answer.facts)
        if not values:
            break
        hops, subject = hops[1:], values[-1]  # the answer names this entity, so the statement can begin with it
    return [ParsedClaim(subject, hops, name) for name in answer.final]


def _supported_share(claim: ParsedClaim, stated: Facts) -> float:
    """1 when the facts state the claim, 0 when they do not, a number between when they state a part of it."""
    if len(claim.hops) == 1:
        values = _values(claim.subject, claim.hops[0], stated)
        if claim.value in values:
            return 1.0
        return max((_common_words(claim.value, value) for value in values), default=0.0)
    *steps, values_at_end = _follow(claim.subject, claim.hops, stated)
    if claim.value in values_at_end:
        return 1.0
    if steps[-1]:
        return 0.0
    for fact in stated:
        if (fact.relation, fact.value) == (claim.hops[-1], claim.value):
            return 0.5  # the last step is stated, but the way to it is not
    return 0.0


def _common_words(name: str, other: str) -> float:
    """Share of the words of two names that agree."""
    words, other_words = name.split(), other.split()
    return sum(word in other_words for word in words) / max(len(words), len(other_words))


def _list_items(question: ParsedQuestion, stated: Facts) -> set[str]:
    """The items of a list question by these facts."""
    if question.asks_all_values:
        return set(values_of(facts_about(question.about, stated)))
    items = set()
    for fact in stated:
        if (fact.relation, fact.value) == (question.hops[0], question.about):
            items.add(fact.subject)
    return items


def _chain_share(question: ParsedQuestion, answer: ParsedAnswer, stated: Facts) -> float:
    """Share of a hop question's steps that the answer gives as the notes state them; the last step weighs most."""
    *steps, values_at_end = _follow(question.about, question.hops, stated)
    last_hop = question.hops[-1]
    if not steps:
        return _end_share(values_at_end, answer, last_hop)
    noted_steps, given_steps = 0, 0
    for values in steps:
        if values:
            noted_steps += 1
            given_steps += not values.isdisjoint(values_of(answer.facts))
    steps_share = given_steps / noted_steps if noted_steps else 0.0
    if values_at_end:
        end_share = _end_share(values_at_end, answer, last_hop)
        if end_share == 1 and not answer.has_reasoning:  # the question asks for the end alone
            return 1.0
        return (1 - _STEPS_SHARE) * end_share + _STEPS_SHARE * steps_share
    if noted_steps:
        return steps_share
    # The notes do not state the first hop: every value of the last hop may be the right one.
    possible = _values_of_relation(last_hop, stated)
    return (1 - _STEPS_SHARE) * _end_share(possible, answer, last_hop)


def _end_share(right: set[str], answer: ParsedAnswer, relation: str) -> float:
    """How right the end of a chain is: 1 for a right final answer alone, less beside others or before the final."""
    if not right:
        return 0.0
    final = set(answer.final)
    if final & right:
        return 1 / len(final)
    return 0.4 if right & _values_of_relation(relation, answer.facts) else 0.0


def _has_contradiction(stated: Facts) -> bool:
    """Whether two facts give one relation of a subject different values."""
    subjects_and_relations = {(fact.subject, fact.relation) for fact in stated}
    return len(subjects_and_relations) < len(set(stated))


def _list_penalty(question: ParsedQuestion, answer: ParsedAnswer) -> float:
    """What a list's final answer loses for items that do not follow from the sentences, and for those left out."""
    reached = _list_items(question, answer.facts)
    penalty = 4 * (1 - _share_in(set(answer.final), reached))
    return penalty + 2 * (1 - _share_in(reached, answer.final) if reached else 1)


def _chain_penalty(question: ParsedQuestion, answer: ParsedAnswer) -> float:
    """What an answer to a hop question loses for steps that do not follow."""
    steps = _follow(question.about, question.hops, answer.facts)
    final = set(answer.final)
    penalty = 0.0
    if not steps[0]:  # does not begin at the question's entity
        penalty += 2
    if not steps[-1]:  # does not lead from there to the end
        penalty += 2
    if not final <= steps[-1]:
        penalty += 1 if final.issubset(values_of(answer.facts)) else 4
    planned = tuple(RELATIONS[hop].noun for hop in question.hops)
    if answer.plan is not None and answer.plan != planned:
        penalty += 1
    return penalty


def _follow(subject: str, hops: Sequence[str], stated: Facts) -> list[set[str]]:
    """The values that the facts lead to from a subject, for each hop; empty sets from where they break off."""
    steps = []
    entities = {subject}
    for hop in hops:
        entities = _values_of_all(entities, hop, stated)
        steps.append(entities)
    return steps


def _values_of_all(subjects: Iterable[str], relation: str, stated: Facts) -> set[str]:
    values: set[str] = set()
    for subject in subjects:
        values.update(_values(subject, relation, stated))
    return values


def _is_possible_answer(name: str, question: ParsedQuestion) -> bool:
    """Whether a name is of a kind that can answer the question."""
    if question.asks_all_values:
        return relation_between(question.about, name) is not None
    relation = RELATIONS[question.hops[-1]]
    return kind_of(name) == (relation.subject_kind if question.is_list else relation.value_kind)


def _values(subject: str, relation: str, stated: Facts) -> list[str]:
    values = []
    for fact in stated:
        if (fact.subject, fact.relation) == (subject, relation):
            values.append(fact.value)
    return values


def _values_of_relation(relation: str, stated: Facts) -> set[str]:
    return {fact.value for fact in stated if fact.relation == relation}


def _share_in(names: Collection[str], given: Iterable[str]) -> float:
    """Share of the distinct names that are among the given ones; 1 when there are no names."""
    distinct = set(names)
    return len(distinct & set(given)) / len(distinct) if distinct else 1.0
