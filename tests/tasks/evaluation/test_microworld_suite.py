"""The microworld's suite, worked out by hand: items that are named, facts that the context states."""

from tasks.evaluation.suites import find_suite
from tasks.records.example import Context, Example

METRICS = find_suite("microworld").metrics
TEXT = "Passage 1: Abrvira\nThe home of Abrvira is Cornvale. The mentor of Abrvira is Abrtan."


def measured(text: str, kind: str = "list") -> dict[str, float | None]:
    context = Context("c", TEXT, 20, (), (), ())
    example = Example("q", "What does the text say about Abrvira?", "c", ("Cornvale", "Abrtan"), kind, "en", "{}")
    return {name: metric(text, example, context) for name, metric in METRICS.items()}


def test_a_complete_and_faithful_answer_has_all() -> None:
    text = "The home of Abrvira is Cornvale. The mentor of Abrvira is Abrtan.\nAnswer: Cornvale and Abrtan"
    assert measured(text) == {"sub_em": 1.0, "item_recall": 1.0, "fact_precision": 1.0}


def test_a_missing_item_costs_recall_and_an_invented_fact_precision() -> None:
    text = "The home of Abrvira is Cornvale. The mentor of Abrvira is Abrlena.\nAnswer: Cornvale"
    assert measured(text) == {"sub_em": 0.0, "item_recall": 0.5, "fact_precision": 0.5}
    short = "The home of Abrvira is Cornvale.\nAnswer: Cornvale"
    assert measured(short) == {"sub_em": 0.0, "item_recall": 0.5, "fact_precision": 1.0}


def test_an_answer_without_a_fact_has_no_precision_and_says_why() -> None:
    assert measured("Answer: Cornvale")["fact_precision"] is None
    assert find_suite("microworld").reasons == {"fact_precision": "no_facts"}
