"""The imperfect answers have the faults that the rates of their teachers say, and no others."""

import random
from collections import Counter
from collections.abc import Iterator

from tasks.microworld.answers import TEACHERS, imperfect_reply
from tasks.microworld.parsing import kind_of, read_answer
from tasks.microworld.questions import LIST, ONE_HOP, SHARES_BY_HOPS, Question, in_reading_order, make_questions
from tasks.microworld.world import WorldDocument, make_world, write_documents

_OPENINGS = {"hasty": "In short:\n", "careful": "Plan: find ", "talkative": "I need to find "}


def questions_with_documents() -> Iterator[tuple[Question, list[WorldDocument]]]:
    for seed in range(3):
        world = make_world(f"teachers:{seed}", 30)
        docs = write_documents(world)
        for question in make_questions(world, docs, 0, 120, SHARES_BY_HOPS[3]):
            yield in_reading_order(question, docs), docs


def make_replies() -> list[tuple[str, Question, str]]:
    """Four replies to every question, each with the name of its teacher."""
    rng = random.Random(0)
    replies = []
    for question, docs in questions_with_documents():
        for _ in range(4):
            reply = imperfect_reply(rng, question, docs)
            teacher = next(name for name, opening in _OPENINGS.items() if reply.startswith(opening))
            replies.append((teacher, question, reply))
    return replies


REPLIES = make_replies()


def share_right(teacher: str, kinds: set[str]) -> float:
    """Of a teacher's replies to such questions, the share that names every answer and no other."""
    right = []
    for name, question, reply in REPLIES:
        if name == teacher and question.kind in kinds:
            right.append(set(read_answer(reply).final) == set(question.answers))
    return sum(right) / len(right)


def test_each_teacher_writes_its_share() -> None:
    counts = Counter(teacher for teacher, _, _ in REPLIES)
    for teacher in TEACHERS:
        assert abs(counts[teacher.name] / len(REPLIES) - teacher.share) < 0.04


def test_the_hasty_one_errs_more_with_every_hop() -> None:
    assert share_right("hasty", {ONE_HOP}) > 0.9
    assert 0.5 < share_right("hasty", {"two-hop"}) < 0.75
    assert share_right("hasty", {"three-hop"}) < 0.5
    assert share_right("hasty", {LIST}) < 0.45


def test_the_others_are_mostly_right() -> None:
    for teacher in ("careful", "talkative"):
        assert share_right(teacher, {"two-hop", "three-hop"}) > 0.7


def test_most_answers_together_are_right_where_the_most_frequent_teacher_is_wrong() -> None:
    rng = random.Random(1)
    right = []
    for question, docs in questions_with_documents():
        if question.kind in ("two-hop", "three-hop"):
            finals = Counter(read_answer(imperfect_reply(rng, question, docs)).final for _ in range(32))
            right.append(finals.most_common(1)[0][0] == question.answers)
    assert sum(right) / len(right) > 0.9


def test_a_wrong_value_is_of_the_right_kind_and_in_the_context() -> None:
    rng = random.Random(2)
    for question, docs in questions_with_documents():
        if question.kind == ONE_HOP:
            (name,) = read_answer(imperfect_reply(rng, question, docs)).final
            assert kind_of(name) == kind_of(question.answer)
            assert any(name in document.text for document in docs)


def test_the_same_generator_writes_the_same_replies() -> None:
    assert make_replies() == REPLIES
