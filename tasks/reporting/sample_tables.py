"""Samples that a stopping rule has saved, in a dataset card and on a report's page."""

from collections.abc import Mapping
from typing import Any

from tasks.reporting.summary import Summary
from tasks.reporting.tables import Rows


def sample_rows(summary: Summary, sampling: Mapping[str, Any]) -> Rows:
    """Samples and their tokens: drawn, and saved of those that every question might have had; none without a rule.

    `sampling`: the recipe's section, as JSON values. Saved tokens are so many times the mean of those that were drawn.
    """
    columns = ["samples", "number", "share", "output tokens of answers"]
    most = summary.questions * sampling["samples"]
    if not sampling.get("stop") or not summary.answers or not most:
        return columns, []
    tokens = sum(value * count for value, count in summary.histograms["sample_tokens"])
    saved = most - summary.answers
    about = round(saved * tokens / summary.answers)
    return columns, [
        ["drawn", f"{summary.answers:,}", f"{100 * summary.answers / most:.1f}%", f"{round(tokens):,}"],
        [f"saved by {sampling['stop']['rule']}", f"{saved:,}", f"{100 * saved / most:.1f}%", f"about {about:,}"],
    ]
