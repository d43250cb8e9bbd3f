"""The report: the keys that programs use, its costs, a page that stands alone, and text that stays text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.errors import InputError
from infra.store import Store, open_store
from tasks.publishing import publish
from tasks.records.manifest import read_manifest
from tasks.reporting.bill import FIGURES
from tasks.reporting.page import excerpt, sample_pairs
from tasks.reporting.report import add_counts, run_cost, write_report
from tasks.reporting.tables import build_rows, report_rows, training_rows
from tests.support.html_page import HtmlPage
from tests.support.longreward import longreward_recipe, publish_longreward
from tests.support.planning import small_recipe
from tests.support.published import fake_plan, fake_recipe

pytestmark = pytest.mark.medium

KEYS = ("questions", "pairs", "drops", "calls", "tokens", "cost", "subem", "model", "seconds", "plan_id")
COUNTS = {
    "made": 10,
    "reused": 2,
    "retried": 1,
    "failed": 0,
    "prompt_tokens": 1_000_000,
    "completion_tokens": 500_000,
    "reused_prompt_tokens": 200_000,
    "reused_completion_tokens": 100_000,
    "reasoning_tokens": 50_000,
    "special_tokens": 4,
}
JUDGE = {"name": "critic", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"]}
MODEL_COUNTS = {
    "made": 1,
    "prompt_tokens": 1_000_000,
    "completion_tokens": 500_000,
    "reused_prompt_tokens": 100_000,
    "reused_completion_tokens": 0,
}
TRAINED = {"model": "models/fake/abc", "name": "fake-abc", "revision": "abc", "kind": "adapter", "steps": 20}


def interval(value: float) -> dict[str, Any]:
    return {"value": value, "low": round(value - 0.1, 3), "high": round(value + 0.1, 3), "n": 40, "missing": {}}


def comparison() -> dict[str, Any]:
    before, after = {"sub_em": interval(0.4)}, {"sub_em": interval(0.65)}
    figures = {"before": before, "after": after, "difference": {"sub_em": interval(0.25)}}
    bucket = {"name": "0-640", "low": 0, "high": 640, "questions": 40, **figures}
    return {"questions": 40, "cut": 0, **figures, "buckets": [bucket], "kinds": [], "calls": {"evaluate": COUNTS}}


def report_of(
    folder: Path, *parts: Any, texts: tuple[str, ...] = (), pairs: int = 1, **more: Any
) -> tuple[Store, dict[str, Any], str]:
    store, recipe = open_store(str(folder)), fake_recipe(folder, pairs)
    plan, results = fake_plan(store, recipe, texts=texts)
    dataset = publish(plan, results, recipe, store).to_json()
    built = {"plan_id": plan.plan_id, "dataset": dataset, "calls": {"sample": COUNTS}} | more
    trained, compared = parts or (None, None)
    report = write_report(store, "fake", recipe, built, trained, compared, {"plan": 1.23456, "shards": 61})
    return store, report, store.read("reports/fake/report.html").decode()


def test_the_bill_stands_beside_the_plan_with_its_warning(tmp_path: Path) -> None:
    figures = {name: {"planned": 1000, "billed": 2500, "ratio": 2.5} for name in FIGURES}
    counted = {"replies": 3, "of": 12}
    warnings = ["the policy costs 2500.00 EUR, 2.5 times the 1000.00 that were planned"]
    bill = {"models": {"policy": figures}, "counted_here": counted, "currency": "EUR", "warnings": warnings}
    _, report, page = report_of(tmp_path, bill=bill)
    assert report["bill"] == bill
    text = HtmlPage(page).text
    assert "policy: prompt tokens" in text and "policy: EUR" in text
    assert f"Warning: {warnings[0]}." in text and "3 of 12 replies had no usage: their tokens are counted here." in text
    assert ["warning", warnings[0], ""] in report_rows(report)[1]
    _, report, page = report_of(tmp_path / "without")
    assert report["bill"] is None and "What the plan expected" not in page


def test_report_json_has_the_promised_keys_and_sums(tmp_path: Path) -> None:
    store, report, _ = report_of(tmp_path, TRAINED, comparison())
    assert json.loads(store.read("reports/fake/report.json")) == report
    assert set(KEYS) <= set(report)
    assert report["questions"] == 13 == report["pairs"] + sum(report["drops"].values())
    assert report["calls"]["sample"] == {"made": 10, "reused": 2, "retried": 1, "failed": 0}
    assert report["calls"].keys() == {"sample", "evaluate"}
    assert report["tokens"]["prompt"] == {"made": 2_000_000, "reused": 400_000}
    # 2 M prompt tokens at 2 EUR and 1 M output tokens at 8 EUR a million; a fifth of it came from the ledger
    amounts = {"amount": 12.0, "reused": 2.4, "thinking": 0.8}  # a tenth of the output was thinking
    assert report["drop_examples"].keys() == report["drops"].keys()
    assert all(report["drop_examples"].values())
    (shown,) = [row for row in report_rows(report)[1] if row[0] == "dropped: margin_too_small"]
    assert shown[2] == report["drop_examples"]["margin_too_small"]
    assert ["special tokens cut from sample", "4", ""] in report_rows(report)[1]
    assert report["tokens"]["thinking"] == {"made": 100_000}
    assert ["tokens: of which reasoning", "100,000 made", "0.8000 EUR"] in report_rows(report)[1]
    by_kind = {"sample": 6.0, "evaluate": 6.0}
    assert report["cost"] == {**amounts, "currency": "EUR", "models": {"policy": amounts}, "kinds": by_kind}
    assert "made, 6.00 EUR" in next(row[1] for row in report_rows(report)[1] if row[0] == "calls: sample")
    assert list(report["subem"]) == ["greedy", "random", "mbr", "oracle", "chosen", "rejected"]
    assert report["model"]["after"]["sub_em"]["value"] == 0.65
    assert report["seconds"] == {"plan": 1.235, "shards": 61}
    assert report["adapter"] == store.place("models/fake/abc")
    assert Path(report["report"], "report.html").exists()
    assert Path(report["dataset"], "README.md").exists()


def test_servers_that_were_started_again_are_counted(tmp_path: Path) -> None:
    _, report, page = report_of(tmp_path / "two", restarts={"policy": 2, "judge": 0})
    assert report["restarts"] == {"policy": 2, "judge": 0}
    assert "The server of the policy was started again 2 times." in page
    assert "server of the judge" not in page
    row = "restarts of the policy's server"
    assert [row, "2", ""] in report_rows(report)[1]
    built = {"dataset": None, "calls": {}, "seconds": {}, "restarts": report["restarts"]}
    assert build_rows(built)[1] == [[row, "2"]]
    _, report, page = report_of(tmp_path / "none")
    assert report["restarts"] == {}
    assert "started again" not in page


def test_what_training_did_stands_in_the_table_of_a_run(tmp_path: Path) -> None:
    trained = {**TRAINED, "steps": 1250, "epochs": 0.6667, "rows": 15_000, "dropped_pairs": 3}
    _, report, _ = report_of(tmp_path, trained, comparison())
    rows = report_rows(report)[1]
    assert ["training", "1,250 steps, 0.6667 epochs of 15,000 questions", ""] in rows
    assert ["pairs too long for training", "3 left out", ""] in rows
    assert training_rows({"steps": 5, "rows": 3})[1] == [["training", "5 steps"]]  # a model of an earlier version


def test_the_report_counts_pairs_and_their_questions(tmp_path: Path) -> None:
    store, report, page = report_of(tmp_path, pairs=3)
    assert (report["pairs"], report["paired_questions"]) == (21, 10)
    assert report["questions"] == 13 == report["paired_questions"] + sum(report["drops"].values())
    assert "from 10 of 13 questions, 3 dropped" in page
    assert ["pairs", "21 of 10 questions", ""] in report_rows(report)[1]
    path = report["manifest"]["path"]
    pairs = sample_pairs(store, path.rpartition("/")[0], read_manifest(store, path))
    questions = [pair["question"] for pair in pairs]
    assert len(set(questions)) == len(questions) == 3  # of the shard's training questions, not three pairs of one


def test_the_page_shows_the_figures_and_links_to_what_is_there(tmp_path: Path) -> None:
    _, report, html = report_of(tmp_path, TRAINED, comparison())
    page = HtmlPage(html)
    for text in ("40.0 → 65.0", "+25.0", "12.00 EUR", "margin_too_small", "SubEM", report["plan_id"]):
        assert text in page.text
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert len(links) == 4
    for link in links:
        assert link
        assert link.startswith("../../models/") or (tmp_path / "reports/fake" / link).resolve().exists()


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    _, _, html = report_of(tmp_path, TRAINED, comparison())
    page = HtmlPage(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "form"}
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert "http://" not in html
    assert "https://" not in html
    assert "prefers-color-scheme: dark" in html


def test_what_a_run_did_not_do_is_stated(tmp_path: Path) -> None:
    _, report, html = report_of(tmp_path)
    assert report["model"]["before"] is None
    assert report["adapter"] is None
    text = HtmlPage(html).text
    assert "Nothing was evaluated in this run." in text
    assert "nothing was trained in this run" in text
    only_before = comparison() | {"after": None, "difference": None}
    _, _, html = report_of(tmp_path / "untrained", None, only_before)
    assert "No model was trained in this run" in HtmlPage(html).text


def test_model_text_cannot_make_markup(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)></div><script>alert(2)</script> {{ 7 * 7 }} \u2028"
    _, _, html = report_of(tmp_path, texts=(hostile,))
    page = HtmlPage(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert "<img src=x onerror=alert(1)></div><script>alert(2)</script> {{ 7 * 7 }}" in page.text


def test_dimensions_agreement_and_saved_calls_are_shown_where_there_are_some(tmp_path: Path) -> None:
    store, recipe = open_store(str(tmp_path)), longreward_recipe(tmp_path)
    dataset = publish_longreward(store, recipe, 8).to_json()
    built = {"plan_id": "p", "dataset": dataset, "calls": {}}
    report = write_report(store, "lr", recipe, built, None, None, {"plan": 1.0})
    assert report["scores"]["faithfulness"]["nulls"] == {"pruned": 1}
    assert set(report["agreement"]["leave_one_out"]) == set(report["agreement"]["dimensions"]) == set(report["scores"])
    assert report["judging"]["saved"]["pruned"] == 1
    page = HtmlPage(store.read("reports/lr/report.html").decode())
    alts = [attributes["alt"] or "" for tag, attributes in page.tags if tag == "img"]
    assert any("by dimension" in alt for alt in alts)
    assert any("higher score is the better answer" in alt for alt in alts)
    for text in ("mean without completeness", "1 pruned", "verdicts shared by equal facts", "rank correlation"):
        assert text in page.text
    card = store.read(f"{dataset['path']}/README.md").decode()
    assert "| mean without completeness |" in card
    assert "(plots/scores.png)" in card
    assert "| 1 (1 pruned) |" in card


def test_one_scorer_has_no_dimensions_to_compare(tmp_path: Path) -> None:
    store, report, html = report_of(tmp_path)
    assert report["agreement"]["leave_one_out"] == {}
    assert "How often the higher score" not in html
    assert not [path for path in store.list("datasets") if path.endswith(("scores.png", "agreement.png"))]


def test_no_dataset_no_report(tmp_path: Path) -> None:
    recipe = fake_recipe(tmp_path)
    with pytest.raises(InputError, match="longmill rerun abc --failed"):
        write_report(open_store(str(tmp_path)), "x", recipe, {"plan_id": "abc", "dataset": None}, None, None, {})


def test_an_excerpt_shows_the_prompt_around_the_reference() -> None:
    prompt = "a" * 1000 + " Lisbon " + "b" * 1000
    text = excerpt(prompt, ["x", "LISBON"])
    assert "Lisbon" in text
    assert len(text) < 400
    assert re.fullmatch(r"\[…\] a+ Lisbon b+ \[…\]", text)
    assert excerpt(prompt, ["none"]).startswith("aaa")
    assert excerpt("short", ["short"]) == "short"


def test_each_model_is_paid_at_its_own_price(tmp_path: Path) -> None:
    judge = {**JUDGE, "price": {"input_per_million": 1.0, "output_per_million": 3.0, "currency": "EUR"}}
    recipe = small_recipe(tmp_path, judge=judge)  # whose policy costs 2 and 8 EUR a million
    cost = run_cost(
        recipe, {"policy": {"sample": MODEL_COUNTS}, "judge": {"notes": MODEL_COUNTS, "support": MODEL_COUNTS}}
    )
    assert cost == {
        "amount": 6.0 + 2 * 2.5,
        "reused": 0.4,
        "currency": "EUR",
        "thinking": 0.0,
        "models": {
            "policy": {"amount": 6.0, "reused": 0.2, "thinking": 0.0},
            "judge": {"amount": 5.0, "reused": 0.2, "thinking": 0.0},
        },
        "kinds": {"sample": 6.0, "notes": 2.5, "support": 2.5},
    }


def test_the_currency_is_that_of_the_model_with_a_price(tmp_path: Path) -> None:
    free = {"input_per_million": 0.0, "output_per_million": 0.0, "currency": "USD"}
    judge = {**JUDGE, "price": {"input_per_million": 1.0, "currency": "CHF"}}
    recipe = small_recipe(tmp_path, judge=judge, policy={"price": free})
    assert run_cost(recipe, {"policy": {}, "judge": {"notes": MODEL_COUNTS}})["currency"] == "CHF"


def test_counts_of_the_same_kind_are_added() -> None:
    assert add_counts({"a": {"made": 1}}, {"a": {"made": 2}, "b": {"made": 3}}) == {"a": {"made": 3}, "b": {"made": 3}}
