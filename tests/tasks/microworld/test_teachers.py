"""The imperfect answers have the faults that their teachers' rates say, and no others."""

import random
from collections import Counter
from collections.abc import Iterator

from tasks.microworld.answers import TEACHERS, imperfect_reply
from tasks.microworld.parsing import kind_of, read_answer
from tasks.microworld.questions import LIST, ONE_HOP, SHARES_BY_HOPS, Question, in_reading_order, make_questions
from tasks.microworld.world import Document, documents, make_world

_OPENINGS = {"hasty": "In short:\n", "careful": "Plan: find ", "talkative": "I need to find "}


def asked() -> Iterator[tuple[Question, list[Document]]]:
    for seed in range(3):
        world = make_world(f"teachers:{seed}", 30)
        shown = documents(world)
        for question in make_questions(world, shown, 0, 120, SHARES_BY_HOPS[3]):
            yield in_reading_order(question, shown), shown


def replies() -> list[tuple[str, Question, str]]:
    rng = random.Random(0)
    found = []
    for question, shown in asked():
        for _ in range(4):
            said = imperfect_reply(rng, question, shown)
            style = next(name for name, opening in _OPENINGS.items() if said.startswith(opening))
            found.append((style, question, said))
    return found


REPLIES = replies()


def share(style: str, right: bool, kinds: set[str]) -> float:
    """Of a style's replies to such questions, the share that names every answer and no other (or does not)."""
    found = [
        set(read_answer(said).final) == set(question.answers)
        for each, question, said in REPLIES
        if each == style and question.kind in kinds
    ]
    return sum(found) / len(found) if right else 1 - sum(found) / len(found)


def test_each_teacher_writes_its_share() -> None:
    styles = Counter(style for style, _, _ in REPLIES)
    for teacher in TEACHERS:
        assert abs(styles[teacher.name] / len(REPLIES) - teacher.share) < 0.04


def test_the_hasty_one_errs_more_with_every_hop() -> None:
    assert share("hasty", True, {ONE_HOP}) > 0.9
    assert 0.5 < share("hasty", True, {"two-hop"}) < 0.75
    assert share("hasty", True, {"three-hop"}) < 0.5
    assert share("hasty", True, {LIST}) < 0.45


def test_the_others_are_mostly_right() -> None:
    for style in ("careful", "talkative"):
        assert share(style, True, {"two-hop", "three-hop"}) > 0.7


def test_most_answers_together_are_right_where_the_most_frequent_teacher_is_wrong() -> None:
    rng = random.Random(1)
    won = []
    for question, shown in asked():
        if question.kind in ("two-hop", "three-hop"):
            finals = Counter(read_answer(imperfect_reply(rng, question, shown)).final for _ in range(32))
            won.append(finals.most_common(1)[0][0] == question.answers)
    assert sum(won) / len(won) > 0.9


def test_a_wrong_value_is_of_the_right_kind_and_in_the_context() -> None:
    rng = random.Random(2)
    for question, shown in asked():
        if question.kind == ONE_HOP:
            (said,) = read_answer(imperfect_reply(rng, question, shown)).final
            assert kind_of(said) == kind_of(question.answer)
            assert any(said in document.text for document in shown)


def test_the_same_generator_writes_the_same_replies() -> None:
    assert replies() == REPLIES
