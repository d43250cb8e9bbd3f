"""Rows of formats that people publish, one small row each: question, context, references, choices, language."""

import json
from typing import Any

import pytest

from infra.errors import InputError
from tasks.metrics import CHOICE, LIST
from tasks.questions import RawQuestion, SourceRow, question_format
from tasks.records.example import Document, Drop


def read_all(name: str, language: str = "en", **values: Any) -> list[RawQuestion | Drop]:
    form = question_format(name)
    return [form.read(row, language) for row in form.rows(SourceRow("file.jsonl", 7, values))]


def read(name: str, language: str = "en", **values: Any) -> RawQuestion:
    (question,) = read_all(name, language, **values)
    assert isinstance(question, RawQuestion)
    return question


def test_native_takes_an_answer_as_text_or_list() -> None:
    assert read("native", question="Q?", context="C", answer="a").references == ("a",)
    assert read("native", question="Q?", context="C", answer=["a", 18]).references == ("a", "18")
    assert read("native", question="Q?", context="C", answer="").references == ()
    both = read("native", question="Q?", context="C", answers=["a"], answer="a long one")
    assert (both.references, json.loads(both.metadata)) == (("a",), {"answer": "a long one"})
    with pytest.raises(InputError, match="field 'answer': holds an object instead of a text or a list of texts"):
        read("native", question="Q?", context="C", answer={"text": ["a"]})


CHOICES = ["Ann Lee", "Bo Ek", "Cy Oh"]


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "B. Bo Ek", "Bo Ek", "bo ek.", ["Bo Ek", "B"]])
@pytest.mark.parametrize(
    "choices", [CHOICES, dict(zip("ABC", CHOICES, strict=True)), {"label": list("ABC"), "text": CHOICES}]
)
def test_native_choices_are_lettered_and_the_right_one_is_a_letter_and_a_text(answer: Any, choices: Any) -> None:
    question = read("native", question="Who?", context="C", choices=choices, answer=answer, kind="people")
    assert question.question == (
        "Who?\n\nA. Ann Lee\nB. Bo Ek\nC. Cy Oh\n\nOne of these options is right. Give its letter in your answer."
    )
    assert (question.references, question.kind) == (("B", "Bo Ek"), CHOICE)
    assert json.loads(question.metadata) == {"kind": "people"}


def test_chinese_choices_are_asked_in_chinese() -> None:
    question = read("native", question="是谁？", context="C", options=["安", "李"], answer="A", language="zh")
    assert question.question.startswith("是谁？\n\nA. 安\nB. 李\n\n以上选项中有一个正确")


@pytest.mark.parametrize("answer", ["1", 1, "D", "Di Po", ["A", "B"], "B. Ann Lee"])
def test_a_choice_that_no_one_can_tell_is_a_drop(answer: Any) -> None:
    (drop,) = read_all("native", question="Who?", context="C", choices=CHOICES, answer=answer)
    assert isinstance(drop, Drop)
    assert drop.reason == "unclear_choice"


def test_a_letter_that_is_another_options_text_is_a_drop() -> None:
    (drop,) = read_all("native", question="Who?", context="C", choices=["B", "A"], answer="A")
    assert isinstance(drop, Drop)


@pytest.mark.parametrize("choices", ["A, B", ["alone"], [1, 2], {"A": 1, "B": 2}])
def test_options_that_are_no_list_of_texts_are_an_error(choices: Any) -> None:
    with pytest.raises(InputError, match="field 'choices': is no list of 2 to 26 texts"):
        read("native", question="Who?", context="C", choices=choices)


def test_options_in_fields_of_their_own_are_refused_as_native() -> None:
    with pytest.raises(InputError, match=r"name them: questions\.fields\.choices: \[option_1, option_2\]"):
        read("native", question="Who?", context="C", option_1="a", option_2="b", answer="a")


def test_choices_without_an_answer_are_asked_and_have_no_reference() -> None:
    question = read("native", question="Who?", context="C", choices=CHOICES)
    assert (question.kind, question.references) == (CHOICE, ())


def test_longbench_v2() -> None:
    choices = {"choice_A": "a report", "choice_B": "b", "choice_C": "c", "choice_D": "a law"}
    question = read("longbench_v2", _id="x", domain="QA", question="What?", context="C", answer="D", **choices)
    assert "\nD. a law\n" in question.question
    assert (question.example_id, question.references) == ("x", ("D", "a law"))
    assert json.loads(question.metadata) == {"domain": "QA"}
    with pytest.raises(InputError, match="field 'choice_B': is missing"):
        read("longbench_v2", question="What?", context="C", answer="D", choice_A="a")


def test_longbench_tasks_without_a_question_get_one() -> None:
    def question(dataset: str, text: str, language: str = "en") -> str:
        row = {"input": text, "context": "C", "answers": ["a"], "dataset": dataset, "language": language, "_id": "x"}
        return read("longbench", **row).question

    assert question("gov_report", "") == question("multi_news_e", "") == "Summarise the text on one page."
    assert question("vcsum", "", "zh") == "请用一页的篇幅概括文本的内容。"
    assert question("trec", "Question: x\nType:").endswith("that the examples have.\n\nQuestion: x\nType:")
    assert "How many different paragraphs" in question("passage_count", "")
    assert question("passage_retrieval_zh", "摘要。", "zh").endswith("\n\n摘要。")
    assert question("qasper", "What is x?") == "What is x?"
    (drop,) = read_all("longbench", input="", context="C", answers=["x"], dataset="lcc_e", language="python", _id="1")
    assert isinstance(drop, Drop)
    assert drop.reason == "code"


def test_longbench_chat_takes_the_query_out_of_the_prompt() -> None:
    after = read("longbench_chat", idx=1, query="主要内容是什么?", prompt="长文。\n\n主要内容是什么?", answer="要点")
    assert (after.context, after.language, after.references) == ("长文。", "zh", ("要点",))
    assert read("longbench_chat", idx=1, query="What?", prompt="What?\n\nText.", answer="x").context == "Text."
    with pytest.raises(InputError, match="field 'prompt': does not hold the query"):
        read("longbench_chat", idx=1, query="What?", prompt="Text.", answer="x")


def test_infinitebench_with_and_without_options() -> None:
    row = {"id": 3, "context": "A book.", "input": "Who?"}
    open_question = read("infinitebench", **row, answer=["Ann", "Ann Lee"], options=[])
    assert (open_question.references, open_question.kind) == (("Ann", "Ann Lee"), "")
    assert read("infinitebench", **row, answer=["Ann", "B"], options=["Bo", "Ann"]).references == ("B", "Ann")


def test_leval_makes_a_question_of_every_instruction() -> None:
    questions = read_all(
        "leval",
        instructions=["Who?", "Which?\n\n (A) One  of these. \n (B) Two."],
        outputs=["Ann", "(B) Two."],
        input="A document.",
        evaluation="exam",
    )
    first, second = questions
    assert isinstance(first, RawQuestion)
    assert isinstance(second, RawQuestion)
    assert (first.question, first.references, first.kind, first.context) == ("Who?", ("Ann",), "exam", "A document.")
    assert second.question.startswith("Which?\n\nA. One of these.\nB. Two.\n\n")
    assert (second.references, second.kind) == (("B", "Two."), CHOICE)
    assert first.example_id != second.example_id
    with pytest.raises(InputError, match="2 instructions have 1 outputs"):
        read_all("leval", instructions=["a", "b"], outputs=["x"], input="D")


def test_ruler_asks_the_last_line() -> None:
    needles = read(
        "ruler", index=0, input="Some numbers are hidden.\nText. 12. 34.\nWhat are they?", outputs=["12", "34"]
    )
    assert (needles.question, needles.kind) == ("What are they?", LIST)
    assert needles.context == "Some numbers are hidden.\nText. 12. 34."
    text = "Answer the question based on the given documents.\n\nText.\n\nQuestion: Who?\n"
    answered = read("ruler", index=0, input=text, outputs=["Ann", "Ann Lee"])
    assert (answered.question, answered.kind, answered.references) == ("Who?", "", ("Ann", "Ann Lee"))


def test_key_value_retrieval_is_a_json_object() -> None:
    question = read("kv_retrieval", ordered_kv_records=[["k1", "v1"], ["k2", 'v"2']], key="k2", value='v"2')
    assert json.loads(question.context or "") == {"k1": "v1", "k2": 'v"2'}
    assert '"k2"' in question.question
    assert question.references == ('v"2',)


def test_longmemeval_keeps_the_history_in_order_and_knows_the_supporting_session() -> None:
    row = {
        "question_id": "q1",
        "question_type": "single-session-user",
        "question": "What degree?",
        "answer": 3,
        "question_date": "2023/05/30",
        "haystack_dates": ["2023/05/20", "2023/05/21"],
        "haystack_session_ids": ["s2", "s1"],
        "haystack_sessions": [[{"role": "user", "content": "Hi."}], [{"role": "user", "content": "Business."}]],
        "answer_session_ids": ["s1"],
    }
    question = read("longmemeval", **row)
    assert question.question == "Today is 2023/05/30. What degree?"
    assert question.context == "2023/05/20\nuser: Hi.\n\n2023/05/21\nuser: Business."
    assert question.documents == (Document("2023/05/21", "user: Business."),)
    assert question.distractors == (Document("2023/05/20", "user: Hi."),)
    assert (question.references, question.kind) == (("3",), "single-session-user")


def test_narrativeqa() -> None:
    row = {"document": {"id": "d", "text": "A story."}, "question": {"text": "Who?"}, "answers": [{"text": "Ann"}] * 2}
    question = read("narrativeqa", **row)
    assert (question.question, question.context, question.references) == ("Who?", "A story.", ("Ann",))
    with pytest.raises(InputError, match=r"field 'question\.text': is missing"):
        read("narrativeqa", **{**row, "question": "Who?"})


def test_squad_as_the_hub_and_as_the_file_has_it() -> None:
    hub = {"id": "1", "title": "T", "context": "C", "question": "Who?"}
    question = read("squad", **hub, answers={"text": ["Ann", "Ann"], "answer_start": [2, 2]})
    questions = [
        {"id": "1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 2}]},
        {"id": "2", "question": "Why?", "answers": [], "is_impossible": True},
    ]
    article = {"title": "T", "paragraphs": [{"context": "C", "qas": questions}]}
    first, second = read_all("squad", version="2.0", data=[article])
    assert first == question
    assert question.documents == (Document("T", "C"),)
    assert isinstance(second, Drop)
    assert second.reason == "unanswerable"


def test_docqa_rl_leaves_out_the_form_of_the_answer() -> None:
    form = 'Format your response as follows: "Therefore, the answer is (insert answer here)".'
    content = f"Please read the following text.\n\n<text>\nA text.\n</text>\n\nWhich year?\n\n{form}"
    row = {"prompt": [{"role": "user", "content": content}], "reward_model": {"style": "rule", "ground_truth": "1911"}}
    question = read("docqa_rl", **row)
    assert (question.question, question.context, question.references) == ("Which year?", "A text.", ("1911",))
    with pytest.raises(InputError, match="holds no message with a document between <text> and </text>"):
        read("docqa_rl", **{**row, "prompt": [{"role": "user", "content": "Hi"}]})


def test_longcite_loses_the_numbers_of_its_sentences() -> None:
    content = "Answer.\n\n[Document Start]\n<C0>One.<C1>Two.\n[Document End]\n\nWhat?"
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "<statement>One."}]
    question = read("longcite", messages=messages)
    assert (question.question, question.context, question.references) == ("What?", "One.Two.", ())
    assert json.loads(question.metadata) == {"answer": "<statement>One."}


def test_2wikimultihop_of_the_hub_calls_its_sentences_content() -> None:
    context = {"title": ["T", "U"], "content": [["One.", " Two."], ["Other."]]}
    question = read(
        "hotpotqa", id="x", question="Q", supporting_facts={"title": ["T"], "sent_id": [0]}, context=context
    )
    assert question.documents == (Document("T", "One. Two."),)
    assert question.distractors == (Document("U", "Other."),)
