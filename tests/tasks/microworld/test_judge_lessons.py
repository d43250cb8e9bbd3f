"""What must hold of the judge's lessons: real prompts, the rules' labels, chunks as the factory cuts them."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from infra.errors import InputError
from tasks.judging.asking import judge_prompt
from tasks.judging.replies import read_facts, read_notes, read_rating, read_support, read_supports
from tasks.judging.retrieval import chunk_spans
from tasks.microworld import rules
from tasks.microworld.answers import HOP_FAULTS, LIST_FAULTS, faulty_answer, gold_draft
from tasks.microworld.judge_accuracy import check_reply
from tasks.microworld.judge_lessons import (
    KINDS,
    RATINGS,
    LessonCall,
    LessonSettings,
    cut_into_chunks,
    lesson_settings,
    make_call_group,
    nearest_chunks,
)
from tasks.microworld.parsing import read_answer
from tasks.microworld.policy_lessons import context_and_questions, gold_reply
from tasks.microworld.questions import LIST
from tasks.microworld.rule_judge import judge
from tasks.microworld.world import Fact
from tests.support.scripted_judge import ScriptedJudge, case_of, judged_recipe, scoring_with

ROOT = Path(__file__).parents[3]
PROMPTS = ROOT / "tasks/prompts/en"


@pytest.fixture(scope="module")
def lessons() -> LessonSettings:
    return lesson_settings(PROMPTS, AutoTokenizer.from_pretrained(ROOT / "infra/models/box/microworld"))


def many_calls(lessons: LessonSettings, kind: str, seed: str, groups: int, calls: int) -> list[LessonCall]:
    """The calls of so many groups of so many calls."""
    made: list[LessonCall] = []
    for number in range(groups):
        made += make_call_group(lessons, kind, f"{seed}{number}", calls).calls
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_every_label_is_the_rules_reply_to_the_very_prompt(lessons: LessonSettings, kind: str) -> None:
    for number in range(3):
        group = make_call_group(lessons, kind, f"test:{number}", 4)
        assert group.calls
        for call in group.calls:
            prompt = group.shared + call.own
            if kind == "notes":
                part = prompt.partition("<document_part>\n")[2].partition("\n</document_part>")[0]
                question = prompt.partition("<question>\n")[2].partition("\n</question>")[0]
                assert call.reply == rules.chained_notes(part, question)
            else:
                assert call.reply == judge(prompt).text


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_group_and_another_seed_another(lessons: LessonSettings, kind: str) -> None:
    assert (
        make_call_group(lessons, kind, "a", 3)
        == make_call_group(lessons, kind, "a", 3)
        != make_call_group(lessons, kind, "b", 3)
    )


def test_a_lesson_is_the_factorys_own_prompt(lessons: LessonSettings) -> None:
    group = make_call_group(lessons, "notes", "x", 2)
    prompt = group.shared + group.calls[0].own
    part = prompt.partition("<document_part>\n")[2].partition("\n</document_part>")[0]
    question = prompt.partition("<question>\n")[2].partition("\n</question>")[0]
    assert judge_prompt("notes", "en", "terse", chunk=part, question=question).messages[0]["content"] == prompt


def test_every_reply_can_be_read_by_the_factory(lessons: LessonSettings) -> None:
    readers: dict[str, Any] = {"facts": read_facts, "notes": read_notes, "support": read_support}
    readers |= dict.fromkeys(RATINGS, read_rating)
    for kind in KINDS:
        for call in make_call_group(lessons, kind, "read", 4).calls:
            if kind == "supports":
                assert len(read_supports(call.reply, len(call.reply.splitlines()))) > 1
            else:
                readers[kind](call.reply)


def test_chunks_are_cut_as_the_factory_cuts_them(lessons: LessonSettings) -> None:
    docs, _ = context_and_questions(random.Random(3), 12, 2)
    text = "\n\n".join(document.text for document in docs)
    case = case_of("x", context=text)
    recipe = judged_recipe()
    assert recipe.judge is not None
    spans = chunk_spans(case.context, 128, scoring_with(ScriptedJudge(lambda request: ""), recipe))
    assert cut_into_chunks(lessons.tokenizer, text, 128) == [text[start:end] for start, end in spans]


def test_the_nearest_chunks_hold_the_statements_names_and_keep_their_order() -> None:
    chunks = ["Salt.", "Abrtan lives in Oakmoor.", "Amber.", "Oakmoor sells salt.", "Wool."]
    nearest = nearest_chunks(random.Random(0), chunks, "The home of Abrtan is Oakmoor.", 2)
    assert nearest == [chunks[1], chunks[3]]


def test_chained_notes_follow_the_hops_within_the_part_and_stop_where_it_does() -> None:
    part = "Borlena has a house in Oakmoor. Kelthon lives in Ashvale. Abrtan was taught by Borlena."
    question = "Where does the mentor of Abrtan live?"
    assert rules.chained_notes(part, question) == "The mentor of Abrtan is Borlena.\nThe home of Borlena is Oakmoor."
    later = part.rpartition(" Abrtan")[0]
    assert rules.chained_notes(later, question) == rules.NO_NOTES
    assert rules.notes(later, question) == "Borlena has a house in Oakmoor.\nKelthon lives in Ashvale."


def test_chained_notes_on_a_list_are_its_items_once_each_in_reading_order() -> None:
    part = "Kelthon lives in Ashvale. Ashvale is home to Abrtan. By all accounts, Kelthon has a house in Ashvale."
    question = "Who lives in Ashvale?"
    assert rules.chained_notes(part, question) == "The home of Kelthon is Ashvale.\nThe home of Abrtan is Ashvale."
    assert rules.chained_notes(part, "What does the text say about Abrtan?") == "The home of Abrtan is Ashvale."
    assert rules.chained_notes("Abrtan sings.", "Why does Abrtan sing?") == "Abrtan sings."


@pytest.mark.medium
def test_verdicts_and_ratings_are_of_every_kind(lessons: LessonSettings) -> None:
    verdicts = [call.reply for call in many_calls(lessons, "support", "v", 8, 12)]
    assert min(verdicts.count(rules.FULL), verdicts.count(rules.NONE)) > len(verdicts) / 4
    for kind in RATINGS:
        groups = [make_call_group(lessons, kind, f"r{number}", 8) for number in range(12)]
        assert len({call.reply for call in many_calls(lessons, kind, "r", 12, 8)}) >= 6
        assert max(len(group.calls) for group in groups) == 8


def test_a_statement_predicts_the_stated_value_and_then_the_verdict(lessons: LessonSettings) -> None:
    differing = 0
    for call in many_calls(lessons, "support", "t", 4, 12):
        statement = call.own.partition("\n</statement>")[0]
        *values, verdict = call.predictions
        end = verdict.position
        assert call.own[end] == "." and end == len(statement) - 1
        assert call.reply.startswith(f"[[{verdict.word}")
        for value in values:
            claimed = call.own[value.position : end]
            assert (value.word == claimed) == (call.reply == rules.FULL)
            differing += value.word != claimed
    assert differing  # the value in the passages is predicted for false statements too


def test_an_answer_line_is_predicted_from_the_steps_or_from_the_notes(lessons: LessonSettings) -> None:
    for kind in ("logicality", "completeness"):
        verdicts = set()
        for call in many_calls(lessons, kind, "e", 12, 8):
            for value, verdict in itertools.pairwise(call.predictions):
                if verdict.position == value.position + len(value.word) and call.own[verdict.position] == "\n":
                    verdicts.add(verdict.word)
        assert verdicts >= {"Fully", "No"}


def test_answers_without_a_fault_are_the_policys_own_and_with_one_are_not() -> None:
    rng = random.Random(1)
    docs, questions = context_and_questions(rng, 20, 6)
    stated: list[Fact] = []
    for document in docs:
        stated += document.facts
    for question in questions:
        gold = gold_draft(question, "plan_and_solve")
        assert gold.text == gold_reply(question, "plan_and_solve")
        for fault in LIST_FAULTS if question.kind == LIST else HOP_FAULTS:
            changed = [fault(random.Random(seed), gold, stated).text for seed in range(6)]
            assert any(text != gold.text for text in changed) or "_other_relation" in fault.__name__


def test_faulty_answers_are_now_right_and_now_wrong() -> None:
    rng = random.Random(5)
    docs, questions = context_and_questions(rng, 20, 6)
    right = []
    for _ in range(200):
        question = rng.choice(questions)
        text = faulty_answer(rng, question, questions, docs)
        right.append(set(read_answer(text).final) == set(question.answers))
    assert 0.25 < sum(right) / len(right) < 0.75


def test_a_missing_prompt_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="judge-terse-helpfulness"):
        lesson_settings(tmp_path, None)


def test_replies_are_checked_strictly() -> None:
    def one(kind: str, reply: str, truth: str) -> tuple[bool, bool, bool]:
        (check,) = check_reply(kind, reply, truth)
        return check.right, check.exact, check.parsed

    assert one("helpfulness", "[[8]]", "[[9]]") == (True, False, True)
    assert one("helpfulness", "[[7]]", "[[9]]") == (False, False, True)
    assert one("helpfulness", "[[11]]", "[[10]]") == (False, False, False)
    assert one("support", rules.FULL, rules.FULL) == (True, True, True)
    assert one("support", "[[Fully supported", rules.FULL) == (False, False, False)
    assert one("notes", "b\na", "a\nb") == (True, True, True)
    assert one("notes", "", "a") == (False, False, False)
    assert one("facts", "<statement>a</statement>\n<statement>b", "<statement>a</statement>") == (False, False, False)
    two = check_reply("supports", f"1. {rules.FULL}\n2. {rules.NONE}", f"1. {rules.FULL}\n2. {rules.FULL}")
    assert [check.right for check in two] == [True, False]
    assert [check.parsed for check in check_reply("supports", rules.FULL, f"1. {rules.FULL}\n2. {rules.FULL}")] == [
        False
    ] * 2
