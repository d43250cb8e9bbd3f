"""Small tables of figures: rows for the terminal, for the report and for the card, and Markdown for the Prefect UI.

Each `*_rows` returns (columns, rows) of strings, with no rows when there is nothing to show; each `*_table` returns
the same as Markdown, text escaped. Order: tables that end a verb, then tables of agreement and of the judge.
"""

import html
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.judging.embedding_fit import EmbeddedTexts
from tasks.records.product import PAIRS, product_of_counts
from tasks.records.shard import paired_questions
from tasks.reporting.planned_evaluation import cost_words, gpu_hour_rows, planned_evaluation_rows
from tasks.training.settings import epochs_in_words

Rows = tuple[list[str], list[list[str]]]

NOTHING = "—"  # a figure that is null


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; cells are escaped, so that no text can make markup or another column."""
    lines = ""
    for cells in (columns, ["---"] * len(columns), *rows):
        lines += f"| {' | '.join(map(_escaped, cells))} |\n"
    return lines


def _escaped(cell: str) -> str:
    return html.escape(cell, quote=False).replace("|", "&#124;").replace("\n", " ")


def count_reasons(counts: Mapping[str, int]) -> str:
    """Counts by reason in a line, like "12 no_rating, 3 pruned"."""
    texts = []
    for reason, count in counts.items():
        texts.append(f"{count:,} {reason}")
    return ", ".join(texts)


def plan_rows(view: dict[str, Any]) -> Rows:
    """What a plan holds, the calls it needs, and its cost."""
    rows = [["questions", f"{view['questions']:,}"], ["shards", f"{view['shards']:,}"]]
    rows += drop_rows(view["drops"])
    if references := view.get("references"):
        rows.append(["with references", f"{references['with_references']:,} of {references['questions']:,}"])
        if references["multiple_choice"]:
            rows.append(["multiple choice", f"{references['multiple_choice']:,}"])
    for language, share in ((view.get("embedding") or {}).get("unknown_tokens") or {}).items():
        rows.append([f"unknown tokens: {language}", f"{100 * share:.1f}% of those that are embedded"])
    if view["most_pairs"] > view["examples"]:
        rows.append(["pairs", f"at most {view['most_pairs']:,}"])
    for kind, calls in view["calls"].items():
        rows.append([f"calls: {kind}", _calls_words(calls)])
    rows += token_rows("", view["tokens"], exact=not any("range" in calls for calls in view["calls"].values()))
    judge, cost = view["judge"], view["cost"]
    if judge is not None:
        for kind, calls in judge["calls"].items():
            total = f"about {calls['total']:,}, expected" if calls["to_make"] else f"{calls['total']:,}"
            rows.append([f"calls: {kind}", f"{total} ({calls['held']:,} in the ledger)"])
        rows += token_rows("judging: ", judge["tokens"], exact=not judge["tokens"]["input"])
        for kind, stage in judge.get("stages", {}).items():
            rows.append([f"stage: {kind}", _stage_words(stage, cost["currency"])])
        rows += _cascade_rows(judge.get("cascade"))
        if "full_judge" in judge:
            stages = list(judge["stages"].values())
            own = {name: sum(stage[name] for stage in stages) for name in judge["full_judge"]}
            rows.append(["judging by this recipe", _stage_words(own, cost["currency"])])
            rows.append(["judging by the full judge", _stage_words(judge["full_judge"], cost["currency"])])
    tokens = view["tokens"]["output"]["high"] + (judge["tokens"]["output"]["high"] if judge else 0)
    rows.append(["cost", cost_words(cost, cost["currency"], tokens)])
    if evaluation := view.get("evaluation"):
        rows += planned_evaluation_rows(evaluation, cost, tokens)
    if sizing := view.get("sizing"):
        rows += gpu_hour_rows(sizing["gpu_hours"], evaluation)
        rows.append(["store", f"about {bytes_in_words(sizing['store_bytes'])}"])
    if training := view.get("training"):
        rows.append(["training", _training_words(training)])
    return ["", ""], rows


def _calls_words(calls: Mapping[str, Any]) -> str:
    """How many calls, in all or at most."""
    if "range" not in calls:
        return f"{calls['total']:,} ({calls['held']:,} in the ledger)"
    few, about, most = (calls["held"] + calls["range"][bound] for bound in ("low", "expected", "high"))
    return f"{few:,} to {most:,}, about {about:,} ({calls['held']:,} in the ledger)"


def _cascade_rows(cascade: Mapping[str, Any] | None) -> list[list[str]]:
    """What a plan expects of its cascade: shares that its calibration saw, no promise for these questions."""
    if cascade is None:
        return []
    if "answers" not in cascade:
        return [["cascade", "every answer is judged: there is no calibration, or none that is enough"]]
    rows = []
    for stage, share in cascade["decided"].items():
        rows.append([f"cascade: decided by {stage}", f"about {100 * share:.0f}% of the questions"])
    estimate = f"an estimate, from {cascade['questions']:,} questions"
    rows.append(["cascade: answers judged", f"about {100 * cascade['answers']:.0f}%, {estimate}"])
    if "last" in cascade:
        words = f"about {100 * cascade['answers_last']:.0f}%, in {100 * cascade['reached_last']:.0f}% of the questions"
        rows.append([f"cascade: · by {', '.join(cascade['last'])}", words])
    rows.append(["cascade: control sample", f"{100 * cascade['control']:g}% of the questions, judged in full"])
    return rows


def _stage_words(stage: Mapping[str, Any], currency: str) -> str:
    tokens = stage["input_tokens"] + stage["output_tokens"]
    return f"about {stage['calls']:,} calls, {tokens:,} tokens, {stage['cost']:.2f} {currency}"


def bytes_in_words(count: float) -> str:
    """12 MB, 1.2 GB, 12 GB: two digits of the largest unit."""
    size, unit = count / 1e6, "MB"
    for larger in ("GB", "TB", "PB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 10 else f"{size:,.0f} {unit}"


def _training_words(training: Mapping[str, Any]) -> str:
    """Steps and epochs of a plan's training, when every question gives a pair."""
    text = f"at most {training['steps']:,} steps, {epochs_in_words(training['epochs'])}"
    text += f" of {training['questions']:,} questions"
    if training["short_rows"]:
        text += f" and {training['short_rows']:,} short rows"
    return text if training["epochs_end"] else f"{text} (ended by training.max_steps)"


def token_rows(prefix: str, tokens: dict[str, Any], exact: bool) -> list[list[str]]:
    output = tokens["output"]
    return [
        [f"{prefix}input tokens", f"{tokens['input']:,}" if exact else f"about {tokens['input']:,}, expected"],
        [f"{prefix}output tokens", f"{output['low']:,} to {output['high']:,}, about {output['expected']:,}"],
    ]


def build_rows(built: dict[str, Any]) -> Rows:
    """Questions, pairs and drops of a build, its calls, and its seconds by stage."""
    rows = []
    if built["dataset"]:
        counts = built["dataset"]["counts"]
        if product_of_counts(counts) == PAIRS:
            rows += [["questions", f"{counts['questions']:,}"], ["pairs", _pair_count(counts)]]
        else:
            rows += [["planned", f"{counts['planned']:,}"], ["questions", f"{counts['questions']:,}"]]
        rows += drop_rows(counts["drops"])
    for kind, calls in built["calls"].items():
        rows.append([f"calls: {kind}", f"{calls['made']:,} made, {calls['reused']:,} reused"])
        if calls.get("reasoning_tokens"):
            rows.append([f"tokens of {kind}: of which reasoning", f"{calls['reasoning_tokens']:,}"])
        if calls.get("special_tokens"):
            rows.append([f"special tokens cut from {kind}", f"{calls['special_tokens']:,}"])
    for section, count in _restarted(built).items():
        rows.append([f"restarts of the {section}'s server", str(count)])
    for section, line in _settled(built):
        rows.append([f"requests to the {section}", line])
    rows += _bill_lines(built)
    for stage, seconds in built["seconds"].items():
        rows.append([f"seconds: {stage}", f"{seconds:.1f}"])
    return ["", ""], rows


def bill_rows(bill: Mapping[str, Any] | None) -> Rows:
    """What each model was planned to take, what it took, and the ratio of both."""
    rows = []
    for section, figures in (bill or {"models": {}})["models"].items():
        for name, figure in figures.items():
            money = name == "money"
            if money and not figure["planned"] and not figure["billed"]:
                continue
            what = f"{section}: {bill['currency'] if bill and money else name.replace('_', ' ')}"
            form = ",.4f" if money else ","
            ratio = NOTHING if figure["ratio"] is None else f"{figure['ratio']:.2f}"
            rows.append([what, format(figure["planned"], form), format(figure["billed"], form), ratio])
    return ["", "planned", "billed", "ratio"], rows


def usage_words(bill: Mapping[str, Any] | None) -> str:
    """A sentence about replies whose tokens the server has not counted; empty when there are none."""
    counted = (bill or {}).get("counted_here", {"replies": 0})
    return f"{counted['replies']:,} of {counted['of']:,} replies had no usage" if counted["replies"] else ""


def _bill_lines(outcome: Mapping[str, Any]) -> list[list[str]]:
    """The bill in a row for each model: what was billed, and how many times what was planned that is."""
    bill = outcome.get("bill") or {"models": {}, "warnings": []}  # earlier reports have none
    lines = []
    for section, figures in bill["models"].items():
        tokens = [figures[name] for name in ("prompt_tokens", "completion_tokens")]
        planned, billed = (sum(figure[column] for figure in tokens) for column in ("planned", "billed"))
        words, ratio = f"{billed:,} tokens", billed / planned if planned else None
        if figures["money"]["planned"] or figures["money"]["billed"]:
            words, ratio = f"{figures['money']['billed']:.2f} {bill['currency']}, {words}", figures["money"]["ratio"]
        lines.append([f"bill: {section}", words if ratio is None else f"{words}: {ratio:.2f} of the plan's estimate"])
    if words := usage_words(bill):
        lines.append(["tokens counted here", words])
    return lines + [["warning", warning] for warning in bill["warnings"]]


def _restarted(outcome: dict[str, Any]) -> dict[str, int]:
    """The restarts of servers that had any, by section of the recipe."""
    restarts = outcome.get("restarts", {})  # earlier reports have none
    return {section: count for section, count in restarts.items() if count}


def _settled(outcome: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(section, what its server's refusals have changed in the form of requests)."""
    for section, lines in outcome.get("settled", {}).items():
        for line in lines:
            yield section, line.partition(" (the server says")[0]


def comparison_rows(outcome: dict[str, Any]) -> Rows:
    """Every metric before and after training, in per cent, with its 95% interval."""
    after = outcome.get("after") or {}
    rows = []
    for metric, before in outcome["before"].items():
        rows.append([_metric_words(metric), _percent_and_interval(before), _percent_and_interval(after.get(metric))])
    return ["held-out questions", "before", "after"], rows


def report_rows(report: dict[str, Any]) -> Rows:
    """The figures of a whole run."""
    rows = [["questions", f"{report['questions']:,}", ""], ["pairs", _pair_count(report), ""]]
    for reason, count in report["drops"].items():
        example = report.get("drop_examples", {}).get(reason, "")  # earlier reports have none
        rows.append([f"dropped: {reason}", f"{count:,}", example])
    for kind, calls in report["calls"].items():
        amount = report["cost"].get("kinds", {}).get(kind)  # earlier reports have none
        price = f", {amount:.2f} {report['cost']['currency']}" if amount else ""
        rows.append([f"calls: {kind}", f"{calls['made']:,} made{price}", f"{calls['reused']:,} reused"])
    if report["tokens"]["thinking"]["made"]:
        thinking, cost = report["tokens"]["thinking"]["made"], report["cost"]
        price = f"{cost['thinking']:.4f} {cost['currency']}" if cost.get("thinking") else ""
        rows.append(["tokens: of which reasoning", f"{thinking:,} made", price])
    for kind, count in report.get("special_tokens", {}).items():  # earlier reports have none
        if count:
            rows.append([f"special tokens cut from {kind}", f"{count:,}", ""])
    for section, count in _restarted(report).items():
        rows.append([f"restarts of the {section}'s server", str(count), ""])
    for section, line in _settled(report):
        rows.append([f"requests to the {section}", line, ""])
    rows += [[*line, ""] for line in _bill_lines(report)]
    for name, figure in report["subem"].items():
        if figure is not None:
            pick = "best-scored" if name == "mbr" else name
            rows.append([f"SubEM of {pick} answers", f"{100 * float(figure['value']):.1f}", ""])
    agreement = report.get("agreement") or {}
    if agreement.get("leave_one_out"):  # with one scorer the mean is that scorer
        for name, figure in {**agreement["dimensions"], "the mean": agreement["mean"]}.items():
            accuracy = {**figure, "value": figure["accuracy"]}
            rows.append([f"agreement of {name}", _percent_and_interval(accuracy), ""])
    for name, value in embedded_rows(report.get("judging") or {})[1]:
        if name != "answers":
            rows.append(["warning" if name == "warning" else f"answers embedded: {name}", value, ""])
    if trained := report.get("trained"):
        for name, value in training_rows(trained)[1]:
            rows.append([name, value, ""])
    model = report.get("model") or {}
    if model.get("before"):
        columns, metrics = comparison_rows(model)
        rows.append(columns)
        for metric, before, after in metrics:
            rows.append([f"  {metric}", before, after])
    rows.append(["seconds", f"{sum(report['seconds'].values()):.0f}", ""])
    return ["", "", ""], rows


def training_rows(trained: Mapping[str, Any]) -> Rows:
    """Steps of a training, and what was not trained on: pairs that were too long, or others' rows by reason."""
    steps = f"{trained['steps']:,} steps"
    if trained.get("epochs"):  # models of earlier versions do not say
        steps += f", {epochs_in_words(trained['epochs'])} of {trained['rows']:,} questions"
    rows = [["training", steps]]
    if others := trained.get("source_rows"):
        pairs, short = trained["pairs"] - trained["short_rows"], trained["short_rows"]
        rows += [["rows read", f"{others:,}"], *drop_rows(trained["dropped"])]
        rows.append(["rows trained on", f"{pairs:,}" + (f" and {short:,} short ones" if short else "")])
    elif dropped := trained.get("dropped_pairs"):
        rows.append(["pairs too long for training", f"{dropped:,} left out"])
    return ["", ""], rows


def training_table(trained: dict[str, Any]) -> str:
    """What a training run returned, as Markdown."""
    rows = []
    for name, value in sorted(trained.items()):
        rows.append([name, str(value)])
    return markdown(["", ""], rows)


def drop_rows(drops: Mapping[str, int]) -> list[list[str]]:
    rows = []
    for reason, count in drops.items():
        rows.append([f"dropped: {reason}", f"{count:,}"])
    return rows


def _pair_count(counts: dict[str, Any]) -> str:
    paired = paired_questions(counts)
    return f"{counts['pairs']:,}" + (f" of {paired:,} questions" if paired != counts["pairs"] else "")


def _metric_words(metric: str) -> str:
    return metric.replace("_", " ")


def _percent_and_interval(figure: dict[str, Any] | None) -> str:
    if figure is None or figure.get("value") is None:
        return ""
    return f"{100 * figure['value']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def agreement_rows(agreement: Mapping[str, Any] | None) -> Rows:
    """Accuracy of every dimension, of the mean, and of the mean without each dimension, in per cent."""
    columns = ["score", "agrees %", "95% interval", "pairs", "left out"]
    if not agreement:
        return columns, []
    rows = []
    for name, figure in agreement["dimensions"].items():
        rows.append(_accuracy_row(name, figure))
    if len(rows) > 1:
        rows.append(_accuracy_row("mean (the reward)", agreement["mean"]))
    for name, figure in agreement["leave_one_out"].items():
        rows.append(_accuracy_row(f"mean without {name}", figure))
    return columns, rows


def gain_rows(agreement: Mapping[str, Any] | None) -> Rows:
    """What each dimension adds to the mean, in points, on the pairs that have both means."""
    rows = []
    for name, figure in (agreement or {}).get("leave_one_out", {}).items():
        gain = figure["gain"]
        if gain["value"] is not None:
            rows.append([name, *_percent_cells(gain, gain["value"], "+.1f"), f"{gain['pairs']:,}"])
    return ["what a dimension adds to the mean", "points", "95% interval", "pairs"], rows


def length_rows(judging: Mapping[str, Any]) -> Rows:
    """Rank correlation of scores with length."""
    correlation = (judging.get("length") or {}).get("correlation", {})
    rows = []
    for name, figure in correlation.items():
        interval = f"[{figure['low']:+.2f}, {figure['high']:+.2f}]"
        rows.append([name, f"{figure['value']:+.2f}", interval, f"{figure['n']:,}"])
    return ["rank correlation with answer length", "mean", "95% interval", "questions"], rows


def bias_rows(judging: Mapping[str, Any]) -> Rows:
    """Shares that are a sign of a bias of length or of position."""
    length = judging.get("length") or {}
    position = judging.get("position") or {}
    shares = {
        "chosen answer is the longer one": length.get("longer_chosen"),
        "duel decided by the order": position.get("changed"),
        "decided for the answer shown first": position.get("first"),
    }
    rows = []
    for name, figure in shares.items():
        if figure and figure["value"] is not None:
            rows.append([name, *_percent_cells(figure, figure["value"]), f"{figure['n']:,}"])
    return ["share", "%", "95% interval", "of"], rows


def expected_rows(judging: Mapping[str, Any]) -> Rows:
    """Expected beside sampled ratings."""
    rows = []
    for name, figures in (judging.get("expected") or {}).items():
        rows.append(
            [
                name,
                NOTHING if figures["correlation"] is None else f"{figures['correlation']:.2f}",
                f"{figures['mean_difference']:+.2f}",
                f"{figures['mean_absolute_difference']:.2f}",
                f"{figures['n']:,}",
            ]
        )
    return ["expected − sampled rating", "correlation", "mean", "apart", "answers"], rows


def saved_rows(judging: Mapping[str, Any]) -> Rows:
    """Calls to the judge that were not needed."""
    names = {
        "shared": "verdicts shared by equal facts of a question",
        "pruned": "verdicts not asked for, as they could change no pair",
        "batched": "verdicts that came in one call with others",
        "verified": "verdicts of the verifier",
    }
    saved = judging.get("saved") or {}
    rows = []
    for name, count in saved.items():
        if count:
            rows.append([names.get(name, name), f"{count:,}"])
    return ["judge calls saved", "calls"], rows


def embedded_rows(judging: Mapping[str, Any]) -> Rows:
    """How the embedding model saw the answers, with a warning where it saw or knew too little of them."""
    columns = ["answers embedded", ""]
    if not judging.get("embedded"):
        return columns, []
    texts = EmbeddedTexts(**judging["embedded"])
    rows = [
        ["answers", f"{texts.texts:,}"],
        ["in several windows", f"{100 * texts.in_windows / texts.texts:.1f}%"],
        ["cut", f"{100 * texts.cut_share:.1f}%"],
        ["tokens unknown to the model", f"{100 * texts.unknown_share:.1f}%"],
    ]
    if warning := texts.warning("the answers"):
        rows.append(["warning", warning])
    return columns, rows


def rejudged_rows(rejudged: Mapping[str, Any] | None) -> Rows:
    """Two judges: kappa of preferences, and of ratings with their stability."""
    columns = ["both judges", "kappa", "95% interval", "the same %", "apart", "n"]
    if not rejudged:
        return columns, []
    rows = []
    preferences = rejudged["preferences"]
    if preferences:
        agreed, pairs = f"{100 * preferences['agreed']:.1f}", f"{preferences['kappa']['n']:,} pairs"
        rows.append(["preferences", *_kappa_cells(preferences["kappa"]), agreed, "", pairs])
    for name, rating in rejudged["ratings"].items():
        unchanged, apart = f"{100 * rating['unchanged']:.1f}", f"{rating['mean_absolute_difference']:.2f}"
        rows.append([name, *_kappa_cells(rating["kappa"]), unchanged, apart, f"{rating['n']:,} answers"])
    return columns, rows


def _accuracy_row(name: str, figure: Mapping[str, Any]) -> list[str]:
    percents = _percent_cells(figure, figure["accuracy"])
    return [name, *percents, f"{figure['pairs']:,}", count_reasons(figure["missing"])]


def _percent_cells(figure: Mapping[str, Any], value: float | None, form: str = ".1f") -> list[str]:
    """A value in per cent and its interval, in the number format `form`."""
    if value is None:
        return [NOTHING, ""]
    return [format(100 * value, form), f"[{100 * figure['low']:{form}}, {100 * figure['high']:{form}}]"]


def _kappa_cells(figure: Mapping[str, Any]) -> list[str]:
    if figure["value"] is None:
        return [NOTHING, ""]
    return [f"{figure['value']:.2f}", f"[{figure['low']:.2f}, {figure['high']:.2f}]"]
