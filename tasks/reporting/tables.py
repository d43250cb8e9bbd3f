"""The small tables that end a run: rows for the terminal, the same as Markdown for the Prefect UI.

Each `*_rows` returns (columns, rows) of strings; each `*_table` the same as Markdown, text escaped.
"""

import html
from typing import Any

from tasks.records.shard import paired_questions

Rows = tuple[list[str], list[list[str]]]


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; cells are escaped, so that no text can make markup or another column."""
    lines = [_line(columns), _line(["---"] * len(columns), raw=True), *map(_line, rows)]
    return "\n".join(lines) + "\n"


def _line(cells: list[str], raw: bool = False) -> str:
    safe = cells if raw else [html.escape(cell).replace("|", "&#124;").replace("\n", " ") for cell in cells]
    return "| " + " | ".join(safe) + " |"


def plan_rows(view: dict[str, Any]) -> Rows:
    """What a plan holds, would call and would cost."""
    rows = [["questions", f"{view['questions']:,}"], ["shards", f"{view['shards']:,}"]]
    rows += [[f"dropped: {reason}", f"{count:,}"] for reason, count in view["drops"].items()]
    if view["most_pairs"] > view["examples"]:
        rows.append(["pairs", f"at most {view['most_pairs']:,}"])
    for kind, calls in view["calls"].items():
        rows.append([f"calls: {kind}", f"{calls['total']:,} ({calls['held']:,} in the ledger)"])
    tokens, judge, cost = view["tokens"], view["judge"], view["cost"]
    rows += _tokens("", tokens, exact=True)
    if judge is not None:
        for kind, calls in judge["calls"].items():
            total = f"about {calls['total']:,}, expected" if calls["to_make"] else f"{calls['total']:,}"
            rows.append([f"calls: {kind}", f"{total} ({calls['held']:,} in the ledger)"])
        rows += _tokens("judging: ", judge["tokens"], exact=not judge["tokens"]["input"])
    rows.append(["cost", f"{cost['low']:.2f} to {cost['high']:.2f} {cost['currency']}, about {cost['expected']:.2f}"])
    rows += [["note", warning] for warning in view.get("warnings", [])]
    return ["", ""], rows


def _tokens(who: str, tokens: dict[str, Any], exact: bool) -> list[list[str]]:
    output = tokens["output"]
    return [
        [f"{who}input tokens", f"{tokens['input']:,}" if exact else f"about {tokens['input']:,}, expected"],
        [f"{who}output tokens", f"{output['low']:,} to {output['high']:,}, about {output['expected']:,}"],
    ]


def status_rows(state: dict[str, Any]) -> Rows:
    """Counts by state, then a row for each shard that failed."""
    shards = state["shards"]
    rows = []
    for name in ("done", "failed", "waiting"):
        some = [each for each in shards if each["state"] == name]
        rows.append([name, str(len(some)), str(sum(each["questions"] for each in some)), ""])
    failed = [each for each in shards if each["state"] == "failed"]
    rows += [[f"  shard {each['shard']}", "", str(each["questions"]), each["error"]] for each in failed]
    return ["state", "shards", "questions", "last error"], rows


def build_rows(built: dict[str, Any]) -> Rows:
    """What a build made and called."""
    rows = []
    if dataset := built["dataset"]:
        counts = dataset["counts"]
        rows += [["questions", f"{counts['questions']:,}"], ["pairs", _pairs(counts)]]
        rows += [[f"dropped: {reason}", f"{count:,}"] for reason, count in counts["drops"].items()]
    for kind, calls in built["calls"].items():
        rows.append([f"calls: {kind}", f"{calls['made']:,} made, {calls['reused']:,} reused"])
    rows += [[f"seconds: {stage}", f"{value:.1f}"] for stage, value in built["seconds"].items()]
    return ["", ""], rows


def comparison_rows(outcome: dict[str, Any]) -> Rows:
    """Each metric before and after, in per cent, with its 95% interval."""
    rows = [
        [_metric(name), _interval(value), _interval((outcome.get("after") or {}).get(name))]
        for name, value in outcome["before"].items()
    ]
    return ["held-out questions", "before", "after"], rows


def report_rows(report: dict[str, Any]) -> Rows:
    """The figures of a whole run."""
    rows = [["questions", f"{report['questions']:,}", ""], ["pairs", _pairs(report), ""]]
    rows += [[f"dropped: {reason}", f"{count:,}", ""] for reason, count in report["drops"].items()]
    for kind, calls in report["calls"].items():
        rows.append([f"calls: {kind}", f"{calls['made']:,} made", f"{calls['reused']:,} reused"])
    for name, value in report["subem"].items():
        if value is not None:
            chosen = "best-scored" if name == "mbr" else name
            rows.append([f"SubEM of {chosen} answers", f"{100 * _value(value):.1f}", ""])
    agreement = report.get("agreement") or {}
    if agreement.get("leave_one_out"):  # of one scorer the mean is that scorer
        for name, figure in {**agreement["dimensions"], "the mean": agreement["mean"]}.items():
            rows.append([f"agreement of {name}", _interval({**figure, "value": figure["accuracy"]}), ""])
    model = report.get("model") or {}
    if model.get("before"):
        rows.append(["held-out questions", "before", "after"])
        rows += [
            [f"  {_metric(name)}", _interval(value), _interval((model.get("after") or {}).get(name))]
            for name, value in model["before"].items()
        ]
    rows.append(["seconds", f"{sum(report['seconds'].values()):.0f}", ""])
    return ["", "", ""], rows


def build_table(built: dict[str, Any]) -> str:
    """`build_rows` as Markdown."""
    return markdown(*build_rows(built))


def comparison_table(outcome: dict[str, Any]) -> str:
    """`comparison_rows` as Markdown."""
    return markdown(*comparison_rows(outcome))


def final_table(report: dict[str, Any]) -> str:
    """`report_rows` as Markdown."""
    return markdown(*report_rows(report))


def training_table(trained: dict[str, Any]) -> str:
    """What a training run made, as Markdown."""
    return markdown(["", ""], [[name, str(value)] for name, value in sorted(trained.items())])


def _pairs(counts: dict[str, Any]) -> str:
    paired = paired_questions(counts)
    return f"{counts['pairs']:,}" + (f" of {paired:,} questions" if paired != counts["pairs"] else "")


def _metric(name: str) -> str:
    return name.replace("_", " ")


def _value(value: Any) -> float:
    return float(value["value"] if isinstance(value, dict) else value)


def _interval(value: dict[str, Any] | None) -> str:
    if value is None or value.get("value") is None:
        return ""
    return f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
