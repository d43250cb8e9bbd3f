"""What the training benchmark's figures are put together to: both ways of a case side by side, and a table for a page.

`python -m flows.bench.training_figures FIGURES.json docs/training.md` writes the table between the page's marks
`<!-- gpu begins -->` and `<!-- gpu ends -->`. A way has figures, or a `problem` in words: it did not fit, was
stopped, failed, or was not run. Uses the standard library alone.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flows.bench.training_case import WAYS, TrainingCase
from infra.errors import InputError

BEGINS, ENDS = "<!-- gpu begins -->\n", "<!-- gpu ends -->"
_HEAD = (
    "| model, trained | prompt / answers, tokens | loss | once per answer: step, tokens/s, memory "
    "| once: step, tokens/s, memory | faster | predicted | losses differ by |\n|---|---|---|---|---|---|---|---|"
)


def case_figures(case: TrainingCase, by_way: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Both ways of a case with their ratios, and what the case is; no ratios where a way has a problem."""
    figures = compare_ways(by_way)
    for way in WAYS:
        figures[way].pop("shape", None)
        prediction = figures[way].pop("predicted_speedup", None)
        if prediction is not None:
            figures["predicted_speedup"] = prediction  # from lengths: the same for both
    return figures | {
        "model": case.model,
        "prompt": case.prompt,
        "answers": list(case.answers),
        "loss": case.loss,
        "method": case.method,
        "vocabulary": case.vocabulary,
    }


def compare_ways(by_way: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of both ways and their ratios."""
    stock, shared = dict(by_way["stock"]), dict(by_way["shared"])
    stock_losses, shared_losses = stock.pop("losses", None), shared.pop("losses", None)
    figures: dict[str, Any] = {"stock": stock, "shared": shared}
    if stock_losses is None or shared_losses is None:
        return figures
    figures["speedup"] = round(stock["step_s"] / shared["step_s"], 2)
    if "processor_s" in stock:
        figures["processor_speedup"] = round(stock["processor_s"] / shared["processor_s"], 2)
    if stock["peak_gb"]:  # a tiny step on a CPU may add nothing
        figures["memory"] = round(shared["peak_gb"] / stock["peak_gb"], 2)
    differences = []
    for stock_loss, shared_loss in zip(stock_losses, shared_losses, strict=False):
        differences.append(abs(stock_loss - shared_loss))  # a slow way may have had time for fewer steps
    figures["losses_differ_by"] = max(differences)
    return figures


def table(report: Mapping[str, Any]) -> str:
    """A report of `make gpu-check` as a chapter's part in Markdown: where it was measured, and a row for each case."""
    machine, versions = report["machine"], report["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    caption = (
        f"`make gpu-check`, {report['date']}, on {report['device']} ({machine['gpu_memory_gb']:g} GB), {packages}. "
        f"{report['seconds']:.0f} seconds."
    )
    return "\n".join([caption, "", _HEAD, *_rows(report["cases"])])


def write_table(figures: Path, page: Path) -> None:
    """Put the table between the page's marks. Raises InputError when the page has none."""
    text = page.read_text(encoding="utf-8")
    before, begins, rest = text.partition(BEGINS)
    _, ends, after = rest.partition(ENDS)
    if not (begins and ends):
        raise InputError(f"{page}: has no lines {BEGINS.strip()} and {ENDS} to write the table between; add them")
    part = table(json.loads(figures.read_text(encoding="utf-8")))
    page.write_text(f"{before}{begins}{part}\n\n{ends}{after}", encoding="utf-8")


def _rows(cases: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    for case in cases.values():
        answers = f"{len(case['answers'])} of {case['answers'][0]}"
        words = f", {case['vocabulary']:,} words" if case["vocabulary"] else ""
        cells = [f"{case['model']}, {case['method']}", f"{case['prompt']} / {answers}", case["loss"].upper() + words]
        for way in WAYS:
            cells.append(_cell(case[way]))
        cells.append(f"{case['speedup']:g} ×" if "speedup" in case else "")
        cells.append(f"{case['predicted_speedup']:g} ×" if "predicted_speedup" in case else "")
        cells.append(f"{case['losses_differ_by']:.1g}" if "losses_differ_by" in case else "")
        yield "| " + " | ".join(cells) + " |"


def _cell(way: Mapping[str, Any]) -> str:
    if "problem" in way:
        return str(way["problem"]).replace("|", "/").replace("\n", " ")
    return f"{way['step_s']:.3g} s, {way['tokens_per_s']:,}, {way['total_gb']:.1f} GB"


if __name__ == "__main__":
    write_table(Path(sys.argv[1]), Path(sys.argv[2]))
