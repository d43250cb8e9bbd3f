"""The table: figures from what questions add, verdicts, and the same on the terminal, in Markdown and as plots."""

from pathlib import Path
from typing import Any

import pytest

from flows.evidence import EvidenceRow, Figures, Measured, Observation, known_rows
from flows.evidence.measuring import shipped_table
from flows.evidence.plots import evidence_plots
from flows.evidence.table import assembled, chapter, count_rows, figure_rows, group_rows, title


def observed(name: str, kind: str = "one-hop", length: int = 1024, **values: float) -> Observation:
    return Observation(name, kind, length, {figure.replace("_", " "): (value, 1.0) for figure, value in values.items()})


def row(**changes: Any) -> EvidenceRow:
    settings = {"methods": ("sealong",), "measure": lambda work: Measured(()), "grouped": True} | changes
    return EvidenceRow(2, "sealong", "does it help?", "50 → 55", "≥ +8", **settings)


def a_table(**changes: Any) -> dict[str, Any]:
    first = [
        observed("a", SubEM_before=0.0, SubEM_after=1.0, SubEM_gain=1.0),
        observed("b", "list", 2048, SubEM_before=1.0, SubEM_after=1.0, SubEM_gain=0.0),
    ]
    second = [observed("c", SubEM_before=0.0, SubEM_after=0.0, SubEM_gain=0.0), observed("d", SubEM_before=1.0)]
    seeds = {0: Measured(first, {"curve": [2.0, 1.0]}), 1: Measured(second, {"curve": [2.0, 1.5]})}
    circumstances = {"command": "longmill evidence", "date": "2026-01-01", "machine": "2 cores", "judge": "rule-based"}
    return {"measured": circumstances | {"seeds": 2, "questions": 2}, "rows": [assembled(row(**changes), seeds)]}


def test_figures_are_means_over_the_questions_of_all_seeds_that_have_them() -> None:
    (found,) = a_table()["rows"]
    assert {name: (each["value"], each["n"]) for name, each in found["figures"].items()} == {
        "SubEM before": (0.5, 4),
        "SubEM after": (0.666667, 3),
        "SubEM gain": (0.333333, 3),
    }
    assert [(each["name"], each["questions"]) for each in found["kinds"]] == [("list", 1), ("one-hop", 3)]
    assert [each["figures"]["SubEM gain"]["value"] for each in found["lengths"]] == [0.5, 0.0]
    assert (found["questions"], found["seeds"]) == (4, [0, 1])


def test_a_share_of_pairs_weighs_questions_by_their_pairs() -> None:
    observations = [
        Observation("a", "list", 1, {"mean": (3.0, 3.0)}),
        Observation("b", "list", 1, {"mean": (0.0, 1.0)}),
    ]
    found = assembled(row(), {0: Measured(observations)})
    assert found["figures"]["mean"]["value"] == 0.75
    assert found["kinds"] == found["lengths"] == []  # a single kind is no group


@pytest.mark.parametrize(("met", "word"), [(True, "yes"), (False, "missed"), (None, "not known")])
def test_a_missed_target_stands_in_the_table_as_missed(met: bool | None, word: str) -> None:
    table = a_table(met=lambda figures, groups: met)
    assert title(table["rows"][0]) == f"2 does it help? (target ≥ +8: {word})"
    assert f"| {word} |" in chapter(table)


def test_gains_are_shown_in_points_with_their_sign() -> None:
    (found,) = a_table()["rows"]
    assert figure_rows(found)[1][2] == ["SubEM gain", "+33.3", "[+0.0, +75.0]", "3"]
    columns, lines = group_rows(found, "lengths")
    assert columns == ["length", "questions", "SubEM before", "SubEM after", "SubEM gain"]
    assert lines[1] == ["2048", "1", "100.0 [100.0, 100.0]", "100.0 [100.0, 100.0]", "+0.0 [+0.0, +0.0]"]


def test_the_headline_alone_stands_in_the_chapter_where_a_row_has_one() -> None:
    said = chapter(a_table(headline=("SubEM gain",)))
    assert "| SubEM gain +33.3 [+0.0, +75.0] |" in said
    assert "SubEM before 50.0" in chapter(a_table())
    for each in known_rows().values():
        assert len(set(each.headline)) == len(each.headline)


def test_figures_by_samples_have_a_column_for_each_number() -> None:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}
    names = ("greedy", "random@8", "oracle@8", "random@16", "oracle@16", "MBR@16 − greedy")
    columns, lines = count_rows({"figures": dict.fromkeys(names, figure)})
    assert columns == ["", "N = 8", "N = 16"]
    assert lines == [[name, *["50.0 [40.0, 60.0]"] * 2] for name in ("random", "oracle")]


def test_results_come_back_as_they_were_kept() -> None:
    measured = Measured([observed("a", SubEM_gain=0.5)], {"pairs": 3})
    assert Measured.from_json(measured.to_json()) == measured


def figures(**values: tuple[float, float]) -> Figures:
    """Figures by name with a value and an upper bound."""
    return {name.replace("_", " "): {"value": value, "high": high} for name, (value, high) in values.items()}


def test_sealong_misses_its_target_by_its_gain_or_by_one_group_that_is_surely_worse() -> None:
    met = known_rows()["sealong"].met
    won, worse, maybe = figures(SubEM_gain=(0.08, 0.1)), figures(SubEM_gain=(-0.2, -0.1)), figures(SubEM_gain=(-0.2, 0))
    assert met(won, [won, maybe]) is True
    assert met(won, [won, worse]) is False
    assert met(figures(SubEM_gain=(0.07, 0.2)), []) is False
    assert met({}, []) is None


def test_longreward_may_gain_recall_instead_but_not_at_the_price_of_precision() -> None:
    met = known_rows()["longreward"].met
    assert met(figures(SubEM_gain=(0.0, 0.1), recall_gain=(0.09, 0.1), precision_gain=(-0.01, 0.01)), []) is True
    assert met(figures(SubEM_gain=(0.2, 0.3), recall_gain=(0.2, 0.3), precision_gain=(-0.1, -0.01)), []) is False
    assert met(figures(SubEM_gain=(0.05, 0.3), recall_gain=(0.07, 0.3)), []) is False


def test_the_baselines_keep_their_order_with_oracle_pairs_above_all() -> None:
    met = known_rows()["baselines"].met
    names = ("LongReward", "contrast", "context-free", "random pairs", "oracle pairs")

    def gains(*values: float) -> Figures:
        return {f"{name} SubEM gain": {"value": value} for name, value in zip(names, values, strict=False)}

    assert met(gains(0.1, 0.05, 0.1, -0.1, 0.3), []) is True
    assert met(gains(0.1, 0.05, 0.02, 0.11), []) is False
    assert met({}, []) is None


def test_rows_stand_in_the_order_of_their_numbers() -> None:
    assert [each.number for each in known_rows().values()] == list(range(1, 10))


def test_every_plot_comes_from_the_table_alone() -> None:
    table = a_table()
    picks = {"greedy": 0.5, **{f"{name}@8": 0.6 for name in ("oracle", "MBR(embedding)", "MBR(ROUGE)", "random")}}
    seen = {name: {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 4} for name, value in picks.items()}
    scores = {name: {"chosen": [[9.0, 2]], "rejected": [[4.0, 2]]} for name in ("helpfulness", "logicality")}
    table["rows"] += [
        {"name": "consensus", "figures": seen},
        {**table["rows"][0], "name": "longreward", "about": {"0": {"scores": scores, "curve": [1.0]}}},
    ]
    plots = evidence_plots(table)
    names = {"sealong-by-length", "longreward-by-length", "picks-by-samples", "scores-by-dimension", "training"}
    assert set(plots) == names
    assert all(image.startswith(b"\x89PNG") for image in plots.values())
    assert evidence_plots({"measured": {}, "rows": []}) == {}


def test_the_page_of_the_evidence_shows_the_table_that_is_shipped() -> None:
    root = Path(__file__).parents[3]
    table = shipped_table()
    assert chapter(table).strip() in (root / "docs/evidence.md").read_text(encoding="utf-8")
    assert {path.stem for path in (root / "flows/evidence/measured").glob("*.png")} == set(evidence_plots(table))
    assert table["measured"]["seeds"] >= 3
