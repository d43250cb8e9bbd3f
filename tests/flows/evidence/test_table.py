"""The table: figures from observations, verdicts, and the same on the terminal, in Markdown and as plots."""

from pathlib import Path
from typing import Any

import pytest

from flows.evidence import EvidenceTableRow, Figures, Observation, SeedResult, evidence_rows
from flows.evidence.measuring import shipped_table
from flows.evidence.plots import evidence_plots
from flows.evidence.table import count_rows, figure_rows, group_rows, markdown_chapter, row_title, table_row


def observation(example_id: str, kind: str = "one-hop", length: int = 1024, **values: float) -> Observation:
    figures = {name.replace("_", " "): (value, 1.0) for name, value in values.items()}
    return Observation(example_id, kind, length, figures)


def row(**changes: Any) -> EvidenceTableRow:
    settings = {"methods": ("sealong",), "measure": lambda experiment: SeedResult(()), "grouped": True} | changes
    return EvidenceTableRow(2, "sealong", "does it help?", "50 → 55", "≥ +8", **settings)


def a_table(**changes: Any) -> dict[str, Any]:
    first = [
        observation("a", SubEM_before=0.0, SubEM_after=1.0, SubEM_gain=1.0),
        observation("b", "list", 2048, SubEM_before=1.0, SubEM_after=1.0, SubEM_gain=0.0),
    ]
    second = [observation("c", SubEM_before=0.0, SubEM_after=0.0, SubEM_gain=0.0), observation("d", SubEM_before=1.0)]
    results = {0: SeedResult(first, {"curve": [2.0, 1.0]}), 1: SeedResult(second, {"curve": [2.0, 1.5]})}
    circumstances = {"command": "longmill evidence", "date": "2026-01-01", "machine": "2 cores", "judge": "rule-based"}
    return {"measured": circumstances | {"seeds": 2, "questions": 2}, "rows": [table_row(row(**changes), results)]}


def test_figures_are_means_over_the_questions_of_all_seeds_that_have_them() -> None:
    (measured,) = a_table()["rows"]
    assert {name: (figure["value"], figure["n"]) for name, figure in measured["figures"].items()} == {
        "SubEM before": (0.5, 4),
        "SubEM after": (0.666667, 3),
        "SubEM gain": (0.333333, 3),
    }
    assert [(kind["name"], kind["questions"]) for kind in measured["kinds"]] == [("list", 1), ("one-hop", 3)]
    assert [length["figures"]["SubEM gain"]["value"] for length in measured["lengths"]] == [0.5, 0.0]
    assert (measured["questions"], measured["seeds"]) == (4, [0, 1])


def test_a_share_of_pairs_weighs_questions_by_their_pairs() -> None:
    observations = [
        Observation("a", "list", 1, {"mean": (3.0, 3.0)}),
        Observation("b", "list", 1, {"mean": (0.0, 1.0)}),
    ]
    measured = table_row(row(), {0: SeedResult(observations)})
    assert measured["figures"]["mean"]["value"] == 0.75
    assert measured["kinds"] == measured["lengths"] == []  # with one kind there are no groups


@pytest.mark.parametrize(("met", "word"), [(True, "yes"), (False, "missed"), (None, "not known")])
def test_a_missed_target_stands_in_the_table_as_missed(met: bool | None, word: str) -> None:
    table = a_table(target_met=lambda figures, groups: met)
    assert row_title(table["rows"][0]) == f"2 does it help? (target ≥ +8: {word})"
    assert f"| {word} |" in markdown_chapter(table)


def test_gains_are_shown_in_points_with_their_sign() -> None:
    (measured,) = a_table()["rows"]
    assert figure_rows(measured)[1][2] == ["SubEM gain", "+33.3", "[+0.0, +75.0]", "3"]
    columns, lines = group_rows(measured, "lengths")
    assert columns == ["length", "questions", "SubEM before", "SubEM after", "SubEM gain"]
    assert lines[1] == ["2048", "1", "100.0 [100.0, 100.0]", "100.0 [100.0, 100.0]", "+0.0 [+0.0, +0.0]"]


def test_the_headline_alone_stands_in_the_chapter_where_a_row_has_one() -> None:
    text = markdown_chapter(a_table(headline=("SubEM gain",)))
    assert "| SubEM gain +33.3 [+0.0, +75.0] |" in text
    assert "SubEM before 50.0" in markdown_chapter(a_table())
    for evidence_row in evidence_rows().values():
        assert len(set(evidence_row.headline)) == len(evidence_row.headline)


def test_figures_by_samples_have_a_column_for_each_number() -> None:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}
    names = ("greedy", "random@8", "oracle@8", "random@16", "oracle@16", "MBR@16 − greedy")
    columns, lines = count_rows({"figures": dict.fromkeys(names, figure)})
    assert columns == ["", "N = 8", "N = 16"]
    assert lines == [[name, *["50.0 [40.0, 60.0]"] * 2] for name in ("random", "oracle")]


def test_results_come_back_as_they_were_stored() -> None:
    result = SeedResult([observation("a", SubEM_gain=0.5)], {"pairs": 3})
    assert SeedResult.from_json(result.to_json()) == result


def figures(**values: tuple[float, float]) -> Figures:
    """Figures by name with a value and an upper bound."""
    return {name.replace("_", " "): {"value": value, "high": high} for name, (value, high) in values.items()}


def test_sealong_misses_its_target_by_its_gain_or_by_a_group_that_is_worse_beyond_its_interval() -> None:
    target_met = evidence_rows()["sealong"].target_met
    better, worse = figures(SubEM_gain=(0.08, 0.1)), figures(SubEM_gain=(-0.2, -0.1))
    uncertain = figures(SubEM_gain=(-0.2, 0))
    assert target_met(better, [better, uncertain]) is True
    assert target_met(better, [better, worse]) is False
    assert target_met(figures(SubEM_gain=(0.07, 0.2)), []) is False
    assert target_met({}, []) is None


def test_longreward_may_gain_recall_instead_but_not_lose_precision() -> None:
    target_met = evidence_rows()["longreward"].target_met
    assert target_met(figures(SubEM_gain=(0.0, 0.1), recall_gain=(0.09, 0.1), precision_gain=(-0.01, 0.01)), []) is True
    assert target_met(figures(SubEM_gain=(0.2, 0.3), recall_gain=(0.2, 0.3), precision_gain=(-0.1, -0.01)), []) is False
    assert target_met(figures(SubEM_gain=(0.05, 0.3), recall_gain=(0.07, 0.3)), []) is False


def test_the_baselines_keep_their_order_with_oracle_pairs_above_all() -> None:
    target_met = evidence_rows()["baselines"].target_met
    names = ("LongReward", "contrast", "context-free", "random pairs", "oracle pairs")

    def gains(*values: float) -> Figures:
        return {f"{name} SubEM gain": {"value": value} for name, value in zip(names, values, strict=False)}

    assert target_met(gains(0.1, 0.05, 0.1, -0.1, 0.3), []) is True
    assert target_met(gains(0.1, 0.05, 0.02, 0.11), []) is False
    assert target_met({}, []) is None


def test_rows_stand_in_the_order_of_their_numbers() -> None:
    assert [evidence_row.number for evidence_row in evidence_rows().values()] == list(range(1, 17))


@pytest.mark.medium
def test_every_plot_comes_from_the_table_alone() -> None:
    table = a_table()
    names = ("greedy", "oracle@8", "MBR(embedding)@8", "MBR(ROUGE)@8", "random@8")
    picks = {name: {"value": 0.6, "low": 0.5, "high": 0.7, "n": 4} for name in names}
    scores = {name: {"chosen": [[9.0, 2]], "rejected": [[4.0, 2]]} for name in ("helpfulness", "logicality")}
    table["rows"] += [
        {"name": "consensus", "figures": picks},
        {**table["rows"][0], "name": "longreward", "about": {"0": {"scores": scores, "curve": [1.0]}}},
    ]
    plots = evidence_plots(table)
    expected = {"sealong-by-length", "longreward-by-length", "picks-by-samples", "scores-by-dimension", "training"}
    assert set(plots) == expected
    assert all(image.startswith(b"\x89PNG") for image in plots.values())
    assert evidence_plots({"measured": {}, "rows": []}) == {}


@pytest.mark.medium
def test_the_page_of_the_evidence_shows_the_table_that_is_shipped() -> None:
    root = Path(__file__).parents[3]
    table = shipped_table()
    assert markdown_chapter(table).strip() in (root / "docs/evidence.md").read_text(encoding="utf-8")
    assert {path.stem for path in (root / "flows/evidence/measured").glob("*.png")} == set(evidence_plots(table))
    assert table["measured"]["seeds"] >= 3


def test_a_row_without_figures_says_why_and_a_later_run_is_named() -> None:
    made = table_row(evidence_rows()["cascade"], {0: SeedResult([], {"left_out": "16 questions, and it takes 29"})})
    run = {"command": "longmill evidence --count 64", "date": "2026-11-29", "machine": "2 cores", "judge": None}
    chapter = markdown_chapter({"measured": {**run, "seeds": 3, "questions": 128}, "rows": [{**made, "measured": run}]})
    assert "| 16 questions, and it takes 29 | — |" in chapter
    assert row_title(made).endswith(": not measured)")
    assert "`longmill evidence --count 64`, 2026-11-29, 2 cores: *a cascade before the judge?*." in chapter
