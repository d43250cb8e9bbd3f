"""The graded examples of the prompts that list facts: how finely each cuts an answer, and what it leaves out."""

import re

import pytest

from tests.support.fact_examples import FactExample, fact_examples

LANGUAGES = ("en", "zh")
BY_SENTENCE, ATOMIC = "judge-full-sentence-facts", "judge-full-facts"
# By language: how the sentences of the examples begin that are no fact, by what they are.
LEFT_OUT = {
    "en": {
        "comparison": ("So the lighthouse",),
        "conclusion": ("All in all",),
        "sum": ("Therefore £",),
        "final answer": ("Final answer", "Answer: "),
        "opening": ("Here is what", "According to the annual report, the museum received in 2014:"),
        "closing": ("I hope this helps",),
        "plan": ("Plan: ", "does the text", "is a teacher"),
        "refusal": ("I have gone", "I have read", "It does not name", "It does not say"),
    },
    "zh": {
        "comparison": ("由此可见",),
        "conclusion": ("总之",),
        "sum": ("三项相加",),
        "final answer": ("答案：",),
        "opening": ("县志中的有关记载如下", "报告的主要内容如下", "根据年度账目，合作社2018年的支出有："),
        "closing": ("以上",),
        "plan": ("计划：", "文中提到他", "他在哪里教过书"),
        "refusal": ("抱歉", "很抱歉"),
    },
}
PRONOUN = {"en": r"\b(it|its|he|she|his|her|hers|they|their|this)\b", "zh": r"它|他|她|其|该|此|这|本"}
QUOTED = re.compile(r'"[^"]+"|“[^”]+”')
FIGURE = re.compile(r"\d+(?:[.,]\d+)*")


def is_fact(sentence: str, language: str) -> bool:
    return not any(sentence.startswith(beginnings) for beginnings in LEFT_OUT[language].values())


def facts_of(example: FactExample, language: str) -> list[str]:
    return [sentence for sentence in example.sentences if is_fact(sentence, language)]


def words_of(text: str, language: str) -> set[str]:
    """Words, or the characters of a Chinese text."""
    return set(re.findall(r"\w+" if language == "en" else r"\w", text))


def statements_per_sentence(examples: list[FactExample], language: str) -> float:
    """Statements by factual sentence of the answers."""
    factual = sum(len(facts_of(example, language)) for example in examples)
    return sum(len(example.statements) for example in examples) / factual


@pytest.mark.parametrize("language", LANGUAGES)
def test_by_sentence_a_factual_sentence_is_about_one_statement(language: str) -> None:
    examples = fact_examples(BY_SENTENCE, language)
    assert 1.0 <= statements_per_sentence(examples, language) <= 1.2
    longest = max((statement for example in examples for statement in example.statements), key=len)
    assert len(re.findall(r",| and |，", longest)) >= 2  # several facts in one


@pytest.mark.parametrize(("language", "ratio"), [("en", 2.7), ("zh", 2.0)])
def test_atomically_it_is_two_or_more(language: str, ratio: float) -> None:
    assert statements_per_sentence(fact_examples(ATOMIC, language)[:1], language) == pytest.approx(ratio, abs=0.05)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_sentence_that_is_left_out_is_in_the_examples(language: str) -> None:
    sentences = [sentence for example in fact_examples(BY_SENTENCE, language) for sentence in example.sentences]
    for kind, beginnings in LEFT_OUT[language].items():
        assert any(sentence.startswith(beginnings) for sentence in sentences), kind


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_statement_is_its_sentence_with_its_figures_and_quotations(language: str) -> None:
    for example in fact_examples(BY_SENTENCE, language):
        for sentence, statement in zip(facts_of(example, language), example.statements, strict=True):
            own = set(FIGURE.findall(sentence))
            assert own <= set(FIGURE.findall(statement)), statement
            assert set(QUOTED.findall(sentence)) <= set(QUOTED.findall(statement)), statement
            words = words_of(sentence, language)
            assert len(words & words_of(statement, language)) > 0.6 * len(words), statement


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_statement_holds_what_the_answer_worked_out_or_a_pronoun(language: str) -> None:
    worked_out = 0
    for example in fact_examples(BY_SENTENCE, language):
        sentences = facts_of(example, language)
        stated = set(FIGURE.findall(" ".join([example.question, *example.sentences[:1], *sentences])))
        in_answer = set(FIGURE.findall(" ".join(example.sentences)))
        worked_out += len(in_answer - stated)
        assert set(FIGURE.findall(" ".join(example.statements))) <= stated
        for statement in example.statements:
            unquoted = QUOTED.sub("", statement)
            assert not re.search(PRONOUN[language], unquoted, re.IGNORECASE), statement
    assert worked_out >= 2  # a difference and a sum


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_list_is_a_statement_for_each_item_and_a_refusal_none(language: str) -> None:
    _, listed, steps, refusal = fact_examples(BY_SENTENCE, language)
    subject = "The Welby Museum received in 2014" if language == "en" else "东岭合作社2018年"
    assert sum(statement.startswith(subject) for statement in listed.statements) >= 3
    assert (len(steps.statements), refusal.statements) == (2, ())
