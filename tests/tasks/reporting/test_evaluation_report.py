"""The report of an evaluation: a page that stands alone, in light and dark, with text that stays text."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from infra.store import open_store
from tasks.evaluation.compare import compare
from tasks.evaluation.several import ModelRows, several_figures
from tasks.reporting.comparison_tables import headline_figures, metric_rows, part_rows, several_rows, word_lines
from tasks.reporting.evaluation_page import Several
from tasks.reporting.evaluation_plots import GROUND, evaluation_plots, numbers_plot, steps_plot
from tasks.reporting.evaluation_report import CHANGED, changed_most, evaluation_command, write_evaluation
from tests.support.evaluated import HOSTILE, evaluated, examples_of
from tests.support.html_page import HtmlPage
from tests.support.recipes_for_scoring import recipe_with

RECIPE = recipe_with({"scorer": "consensus"}, evaluation={"resamples": 100})
BEFORE = evaluated(0.5, seed=1)
AFTER = evaluated(0.8, seed=2, answer=f"Because. {HOSTILE}")
OUTCOME = compare(BEFORE, AFTER, RECIPE)
COUNTS = {"made": 96, "reused": 4, "prompt_tokens": 120_000, "completion_tokens": 900, "reused_prompt_tokens": 5_000}
LEAK = {"example_id": "q001", "row_id": "t3", "question": 1.0, "context": 0.3}
OVERLAP = {"questions": 96, "rows": 50, "leaked": 1, "leaks": [LEAK], "context_mean": 0.1, "context_most": 0.4}


def report_of(folder: Path, **more: Any) -> tuple[dict[str, Any], str]:
    outcome = {**OUTCOME, "suites": {"qa": OUTCOME}, "calls": {"evaluate": COUNTS}, "overlap": OVERLAP}
    after = more.pop("after", AFTER)
    report = write_evaluation(
        open_store(str(folder)),
        RECIPE,
        outcome,
        BEFORE,
        after,
        examples_of(BEFORE),
        after_name="small-abc",
        command=evaluation_command("evaluate", RECIPE, "datasets/a/b/manifest.json", [("--model", "models/small/abc")]),
        **more,
    )
    return report, Path(report["report"], "report.html").read_text()


@pytest.mark.medium
def test_the_page_stands_alone_and_model_text_stays_text(tmp_path: Path) -> None:
    _, page = report_of(tmp_path)
    tags = HtmlPage(page).tags
    assert not {"script", "iframe", "link"} & {tag for tag, _ in tags}
    for tag, attributes in tags:
        for name in ("src", "srcset"):
            if tag in ("img", "source") and name in attributes:
                assert str(attributes[name]).startswith("data:image/svg+xml;base64,")
    assert "&lt;script&gt;alert" in page
    assert "{{ 7 * 7 }}" in page  # no template of a model's is filled in
    assert "49" not in re.findall(r"Because\..{0,80}", page, re.DOTALL)[0]


@pytest.mark.medium
def test_every_plot_is_there_in_light_and_in_dark(tmp_path: Path) -> None:
    report, page = report_of(tmp_path)
    names = ["by-length", "by-depth", "by-position", "by-language", "by-kind", "by-task"]
    files = {path.name for path in Path(report["report"], "plots").iterdir()}
    assert files == {f"qa-{name}-{ground}.svg" for name in names for ground in ("light", "dark")}
    assert page.count("(prefers-color-scheme: dark)") == len(names) + 1  # and the style of the page
    for path in Path(report["report"], "plots").iterdir():
        text = path.read_text()
        ET.fromstring(text)
        assert (GROUND in text) == ("light" in path.name)


@pytest.mark.medium
def test_report_json_has_all_of_it(tmp_path: Path) -> None:
    report, page = report_of(tmp_path)
    stored = json.loads(Path(report["report"], "report.json").read_text())
    assert stored == report
    assert stored["command"] == (
        "longmill evaluate test.yaml --manifest datasets/a/b/manifest.json --model models/small/abc"
    )
    assert stored["suites"]["qa"]["difference"]["sub_em"]["words"].startswith("with 96 questions, differences under ")
    assert stored["suites"]["qa"]["macro"]["qa"]["sub_em"]["tasks"] == 2
    assert stored["overlap"]["leaked"] == 1
    assert len(stored["changed"]["qa"]) == CHANGED
    for text in ("1 of 96 questions were trained on", "prompt tokens saved", "macro average", "t3"):
        assert text in page


def test_the_questions_that_changed_most_come_first() -> None:
    changed = changed_most(BEFORE, AFTER, examples_of(BEFORE), "token_f1")
    differences = [abs(one["before"]["score"] - one["after"]["score"]) for one in changed]
    assert differences == sorted(differences, reverse=True)
    assert 0 not in differences
    assert changed_most(BEFORE, BEFORE, examples_of(BEFORE), "sub_em") == []
    assert changed_most(BEFORE, AFTER, examples_of(BEFORE), "token_f1") == changed


def test_one_model_alone_has_no_after(tmp_path: Path) -> None:
    outcome = compare(BEFORE, None, RECIPE)
    report = write_evaluation(
        open_store(str(tmp_path)),
        RECIPE,
        {**outcome, "suites": {"qa": outcome}},
        BEFORE,
        None,
        examples_of(BEFORE),
        after_name=None,
        command="longmill evaluate test.yaml",
    )
    page = Path(report["report"], "report.html").read_text()
    assert "equal models" not in page and "What changed most" not in page
    assert "Not measured" in page
    assert ">model</span>" in page and ">before</span>" not in page
    assert word_lines(outcome)[0].startswith("Token F1, without a score: 20 no_reference.")


@pytest.mark.medium
def test_several_models_stand_in_one_table_with_the_curve(tmp_path: Path) -> None:
    figures = several_figures([ModelRows("base", [BEFORE]), ModelRows("step 20", [AFTER], 20)], RECIPE)
    curve = [{"step": step, "figure": figures[0]["suites"]["qa"]["sub_em"]["figure"]} for step in (10, 20)]
    plot = steps_plot(curve, curve[0]["figure"], 20, "sub_em")
    several = Several({"models": figures}, "About <b>", [several_rows(figures)], ["A note."], plot, "The curve")
    report, page = report_of(tmp_path, several=several)
    assert "About &lt;b&gt;" in page and "A note." in page and "The curve" in page
    assert report["several"]["models"] == figures
    assert Path(report["report"], "plots/steps-dark.svg").exists()
    columns, rows = several_rows(figures)
    assert columns[0] == "metric" and [row[1] for row in rows[:2]] == ["base", "step 20"]


@pytest.mark.medium
def test_the_same_evaluation_writes_the_same_bytes(tmp_path: Path) -> None:
    first, page = report_of(tmp_path)
    second, again = report_of(tmp_path)
    assert (first["report"], page) == (second["report"], again)


def test_plots_of_nothing_and_of_one_part_are_left_out() -> None:
    assert numbers_plot([], "sub_em", "tokens") is None
    assert numbers_plot(OUTCOME["buckets"][:1], "sub_em", "tokens") is None
    assert evaluation_plots(OUTCOME, "no such metric") == {}


@pytest.mark.parametrize("metric", ["sub_em", "token_f1"])
def test_tables_have_the_figures_of_every_part(metric: str) -> None:
    columns, rows = part_rows(OUTCOME, metric)
    assert len(columns) == len(rows[0])
    assert {row[0].split()[0] for row in rows} == {"tokens", "kind", "task", "depth", "position", "language"}
    _, metrics = metric_rows(OUTCOME)
    assert metrics[0][0] == "SubEM" and metrics[0][5] == "96"


def test_the_headline_is_the_mean_over_tasks_where_the_suite_says_so() -> None:
    assert headline_figures(OUTCOME, "sub_em")["before"] == OUTCOME["before"]["sub_em"]
    by_task = headline_figures({**OUTCOME, "average": "tasks"}, "sub_em")
    assert by_task["before"] == OUTCOME["macro"]["qa"]["sub_em"]["before"] != OUTCOME["before"]["sub_em"]
    one_task = {**OUTCOME, "average": "tasks", "macro": {}}
    assert headline_figures(one_task, "sub_em")["after"] == OUTCOME["after"]["sub_em"]


def test_figures_of_all_questions_together_are_lines() -> None:
    alone = compare(BEFORE, None, RECIPE) | {"summary": {"before": {"effective_length": None}, "after": None}}
    assert word_lines(alone)[-1] == "Effective length: none."
    summary = {"before": {"effective_length": 1024}, "after": {"effective_length": 4096, "length_controlled": 0.625}}
    lines = word_lines({**OUTCOME, "summary": summary})
    assert lines[-2:] == [
        "Effective length: 1,024 tokens before, 4,096 tokens after.",
        "Win rate at equal length: 62.5% after.",
    ]


def test_tables_of_one_model_have_no_columns_of_a_second() -> None:
    alone = compare(BEFORE, None, RECIPE)
    columns, rows = metric_rows(alone)
    assert columns == ["metric", "score", "questions"]
    assert rows[0][1:] == [metric_rows(OUTCOME)[1][0][1], "96"]
    assert part_rows(alone, "sub_em")[0] == ["SubEM", "score", "questions"]
    assert all(len(row) == 3 for row in part_rows(alone, "sub_em")[1])
