"""Each format's real shape becomes the same kind of question; wrong shapes are errors that name the field."""

import json
from pathlib import Path

import pytest

from infra.errors import InputError, RecipeError
from infra.recipe import Questions
from tasks.questions import SourceRow, question_format, question_formats, read_questions
from tasks.records.example import Document, Drop

REAL_FILE = Path(__file__).parents[4] / "shared" / "data" / "nq-open-oracle.jsonl.gz"


def read(name, language="en", **values):
    return question_format(name).read(SourceRow("file.jsonl", 7, values), language)


def test_every_format_of_the_recipe_is_there():
    assert set(question_formats()) == {
        *("native", "musique", "hotpotqa", "longbench", "longreward", "multidoc_qa", "longbench_v2", "longbench_chat"),
        *("infinitebench", "squad", "narrativeqa", "leval", "ruler", "kv_retrieval", "longmemeval", "docqa_rl"),
        *("longcite", "locomo", "messages", "longbench_code"),
    }
    with pytest.raises(RecipeError, match=r"no format 'csv'; there are: docqa_rl, .*native"):
        question_format("csv")


def test_native_takes_context_or_documents_and_keeps_the_rest():
    question = read(
        "native",
        id=12,
        question="Q?",
        documents=[{"title": "T", "text": "D"}, {"text": "  "}, {"text": "E"}],
        distractors=[{"text": "F"}],
        answers=["a", "b"],
        kind="two-hop",
        language="zh",
        metadata={"m": 1},
        score=float("nan"),
        extra="é",
    )
    assert question.example_id == "12"
    assert question.documents == (Document("T", "D"), Document("", "E"))
    assert question.distractors == (Document("", "F"),)
    assert (question.references, question.kind, question.language) == (("a", "b"), "two-hop", "zh")
    assert question.metadata == '{"extra":"é","m":1,"score":null}'
    assert read("native", question="Q?", context="C").context == "C"


def test_an_id_is_derived_from_question_and_sources_alone():
    one = read("native", question="Q?", context="C", kind="x")
    assert len(one.example_id) == 16
    assert read("native", question="Q?", context="C").example_id == one.example_id
    assert read("native", question="Q?", context="D").example_id != one.example_id
    assert read("native", id="", question="Q?", context="C").example_id == one.example_id


def test_musique():
    row = {
        "id": "2hop__482757_12019",
        "paragraphs": [
            {"idx": 0, "title": "Pioneer", "paragraph_text": "Other text.", "is_supporting": False},
            {"idx": 1, "title": "Maria", "paragraph_text": "Maria was built by X.", "is_supporting": True},
        ],
        "question": "When was X founded?",
        "question_decomposition": [{"id": 482757, "question": "Maria >> manufacturer", "answer": "X"}],
        "answer": "June 1982",
        "answer_aliases": ["1982", "June 1982"],
        "answerable": True,
    }
    question = read("musique", **row)
    assert question.documents == (Document("Maria", "Maria was built by X."),)
    assert question.distractors == (Document("Pioneer", "Other text."),)
    assert (question.references, question.kind) == (("June 1982", "1982"), "2hop")
    dropped = read("musique", **{**row, "answerable": False})
    assert isinstance(dropped, Drop)
    assert (dropped.example_id, dropped.reason) == (row["id"], "unanswerable")


def test_hotpotqa_in_both_published_shapes():
    original = {
        "_id": "5a7a06935542990198eaf050",
        "answer": "Arthur's Magazine",
        "question": "Which magazine was started first?",
        "supporting_facts": [["Arthur's Magazine", 0], ["First for Women", 0]],
        "context": [
            ["Radio City", ["Radio City is India's first.", " It plays songs."]],
            ["Arthur's Magazine", ["It began in 1844.", " It ended in 1846."]],
            ["First for Women", ["It is a magazine."]],
        ],
        "type": "comparison",
        "level": "medium",
    }
    columns = {
        **{name: value for name, value in original.items() if name != "_id"},
        "id": original["_id"],
        "supporting_facts": {"title": ["Arthur's Magazine", "First for Women"], "sent_id": [0, 0]},
        "context": {
            "title": [title for title, _ in original["context"]],
            "sentences": [sentences for _, sentences in original["context"]],
        },
    }
    question = read("hotpotqa", **original)
    assert question == read("hotpotqa", **columns)
    assert question.documents == (
        Document("Arthur's Magazine", "It began in 1844. It ended in 1846."),
        Document("First for Women", "It is a magazine."),
    )
    assert question.distractors == (Document("Radio City", "Radio City is India's first. It plays songs."),)
    assert (question.kind, question.metadata) == ("comparison", '{"level":"medium"}')


def test_longbench():
    row = {"input": "Q?", "context": "C", "answers": ["a"], "length": 3, "dataset": "hotpotqa", "language": "en"}
    question = read("longbench", **row, all_classes=None, _id="abc")
    assert (question.example_id, question.question, question.context) == ("abc", "Q?", "C")
    assert (question.references, question.kind, question.metadata) == (("a",), "hotpotqa", '{"length":3}')


def test_longreward_rows_are_english_or_chinese_by_their_query():
    english = read("longreward", idx=11, query="How does the author (李) see it?", context="C", answer="A long one.")
    assert (english.example_id, english.language, english.references) == ("11", "en", ())
    assert json.loads(english.metadata) == {"answer": "A long one."}
    chinese = read(
        "longreward", idx=3, query="根据文章，GDP 增长了多少？", context="C", win_response="a", lose_response="b"
    )
    assert chinese.language == "zh"
    assert read("longreward", idx=4, query="2023?", context="C", language="zh").language == "zh"


def test_multidoc_qa():
    passages = [
        {"title": "A", "text": "gold", "hasanswer": True, "isgold": True},
        {"title": "B", "text": "other", "hasanswer": False, "isgold": False},
    ]
    question = read("multidoc_qa", question="q", answers=["x"], ctxs=passages, nq_annotated_gold={"title": "A"})
    assert question.documents == (Document("A", "gold"),)
    assert question.distractors == (Document("B", "other"),)
    assert question.metadata == "{}"


@pytest.mark.skipif(not REAL_FILE.exists(), reason="the real file lies beside the repository, not in it")
def test_the_real_multi_document_file():
    settings = Questions(source=str(REAL_FILE), format="multidoc_qa")
    outcomes = list(read_questions(settings, "pooled"))
    questions = [outcome for outcome in outcomes if not isinstance(outcome, Drop)]
    drops = [outcome for outcome in outcomes if isinstance(outcome, Drop)]
    assert len(outcomes) == 2655
    assert all(len(question.documents) == 1 and question.references for question in questions)
    assert {drop.reason for drop in drops} <= {"duplicate_id"}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("native", {"context": "C"}, "'question': is missing; the row has context"),
        ("native", {"question": 3, "context": "C"}, "'question': holds a number instead of text"),
        ("native", {"question": "Q", "context": ["C"]}, "'context': holds a list instead of text"),
        ("native", {"question": "Q", "answers": "a"}, "'answers': holds .* instead of a list of strings"),
        ("native", {"question": "Q", "answers": [1]}, "'answers': holds a list instead of a list of strings"),
        ("native", {"question": "Q", "documents": ["text"]}, "'documents': holds a list instead of a list of objects"),
        ("native", {"question": "Q", "documents": [{"title": "t"}]}, "'documents.text': is missing"),
        ("native", {"question": "Q", "documents": [{"text": 1}]}, "'documents.text': holds a number"),
        ("native", {"question": "Q", "metadata": "m"}, "'metadata': is not an object"),
        ("native", {"question": "Q", "id": True}, "'id': holds true or false instead of an id"),
        ("native", {"question": "Q", "id": 1.5}, "'id': holds a number instead of an id"),
        ("musique", {"question": "Q"}, "'paragraphs': is missing"),
        ("musique", {"question": "Q", "paragraphs": [{"paragraph_text": "t"}]}, "'paragraphs.is_supporting': is not"),
        ("hotpotqa", {"question": "Q", "supporting_facts": []}, "'context': is missing"),
        ("hotpotqa", {"question": "Q", "supporting_facts": [["t"]], "context": []}, "'supporting_facts': holds"),
        (
            "hotpotqa",
            {"question": "Q", "supporting_facts": [], "context": [["t", "s"]]},
            "'context': the paragraph 't' is not a list of",
        ),
        ("longbench", {"input": "Q"}, "'context': is missing"),
        ("longreward", {"context": "C"}, "'query': is missing"),
        ("multidoc_qa", {"question": "Q", "ctxs": {"text": ["a"], "title": []}}, "'ctxs': is an object whose values"),
    ],
)
def test_a_wrong_shape_names_file_row_field_and_remedy(name, values, message):
    with pytest.raises(InputError, match=rf"file\.jsonl, row 7, field {message}.*; ."):
        read(name, **values)


def test_lists_of_objects_may_come_as_columns():
    question = read("native", question="Q", documents={"title": ["a", "b"], "text": ["A", "B"]})
    assert question.documents == (Document("a", "A"), Document("b", "B"))
