"""Two verbs that look at what lies there: `longmill agreement` and `longmill inspect`. They call no model.

Whatever a model or a document has said is printed as plain text: no markup of Rich, no control character that a
terminal would obey.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flows.cli.display import AsJson, console, finish, table
from infra.errors import InputError

_KEPT = "\n\t\u200c\u200d"  # the last two join or part letters; other control and format characters are not shown
_QUESTION = 60  # characters of a question in the list of pairs
_PASSAGE, _REPLY = 400, 300  # characters of a passage and of a reply; --json has all
_VERDICTS = {1.0: ("full", "green"), 0.5: ("partial", "yellow"), 0.0: ("none", "red")}

Dataset = Annotated[str, typer.Argument(help="Folder or URL of a published dataset.", metavar="DATASET")]


def agreement(
    dataset: Dataset,
    labels: Annotated[
        str, typer.Option(help="People's labels (JSONL or Parquet), instead of the references.", metavar="FILE")
    ] = "",
    other: Annotated[
        str, typer.Option("--with", help="Dataset of the same answers, judged by another or again.", metavar="DATASET")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Compare a dataset's scores with references, with people's labels, or with another judge's."""
    from tasks.reporting.dataset_views import agreement_view

    view = agreement_view(dataset, labels, other)
    if not as_json:
        for each in agreement_page(view):
            console.print(each)
    finish(as_json, view, [])


def inspect(
    dataset: Dataset,
    pair: Annotated[str, typer.Option(help="Pair to show: its id, or how the id begins.", metavar="ID")] = "",
    number: Annotated[int, typer.Option(min=1, help="Which of them, where its question has several.")] = 1,
    limit: Annotated[int, typer.Option(min=1, help="Pairs to list, without --pair.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show a dataset's pairs, or one pair with its scores, its facts and the passages that support them."""
    from tasks.records.reader import read_dataset
    from tasks.reporting.dataset_views import pair_list, pair_view

    if number > 1 and not pair:
        raise InputError("--number tells the pairs of one question apart; give the question with --pair ID")
    opened = read_dataset(dataset)
    view = pair_view(opened, pair, number) if pair else pair_list(opened, limit)
    if not as_json:
        for each in pair_page(view) if pair else list_page(view):
            console.print(each)
    finish(as_json, view, [])


def agreement_page(view: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The tables of `agreement_view` that have rows, and a line for what has none."""
    from tasks.reporting import tables

    found = view["agreement"]
    if found:
        title = f"agreement with the {view['gold']}: {found['pairs']:,} preferences on {found['questions']:,} questions"
        yield table(title, *tables.agreement_rows(found))
    else:
        yield Text("No reference tells two answers of a question apart; --labels FILE gives people's preferences.")
    if unknown := view["unknown_labels"]:
        yield plain(f"{len(unknown):,} labels are about answers that are not in the dataset; the first: {unknown[0]}")
    judging = view["judging"]
    parts = [
        tables.gain_rows(found),
        tables.rejudged_rows(view["rejudged"]),
        tables.length_rows(judging),
        tables.bias_rows(judging),
        tables.expected_rows(judging),
        tables.saved_rows(judging),
    ]
    for columns, rows in parts:
        if rows:
            yield Text("")
            yield table("", columns, rows)


def list_page(view: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The pairs as a table, and how many more there are; without any, why."""
    if not view["pairs"]:
        yield from _no_pairs(view["drops"])
        return
    drawn = _table("pair", "question", "chosen", "rejected", "margin")
    for row in view["rows"]:
        question = " ".join(row["question"].split())
        shown = f"{question[:_QUESTION]}…" if len(question) > _QUESTION else question
        figures = (f"{row[name]:.3g}" for name in ("chosen_reward", "rejected_reward", "margin"))
        nth = f" --number {row['number']}" if row["number"] > 1 else ""
        drawn.add_row(plain(f"{row['example_id']}{nth}"), plain(shown), *figures)
    yield drawn
    if view["more"]:
        yield Text(f"and {view['more']:,} more of {view['pairs']:,}; --limit shows more of them")


def _no_pairs(drops: Mapping[str, int]) -> Iterator[RenderableType]:
    """What became of the questions, by reason."""
    yield Text("no pairs", "bold")
    if not drops:
        yield Text("and no dropped questions: nothing was asked")
        return
    yield Text(
        f"Dropped: {sum(drops.values()):,} questions, for the reasons below. --pair with a question's id tells its "
        "detail; all of them are in the dataset's drops."
    )
    for reason, count in drops.items():
        yield _indented(Text(f"{count:>7,}  ") + plain(reason))


def pair_page(view: Mapping[str, Any]) -> Iterator[RenderableType]:
    """One pair: the question, both answers side by side, scores, notes, facts."""
    several = f", {view['number']} of {view['of']}" if view["of"] > 1 else ""
    yield Text(f"pair {_clean(view['example_id'])}{several} ({view['split']}), margin {view['margin']:.3g}", "bold")
    yield Text("")
    yield _named("question", view["question"])
    yield _named("references", " · ".join(view["references"]) or "none")
    characters = view["context"]["characters"]
    yield _named("context", "not found in the prompt" if characters is None else f"{characters:,} characters")
    yield Text("")
    yield _answers(view["answers"])
    yield Text("")
    yield _scores(view["answers"])
    yield from _replies(view["answers"])
    yield from _notes(view["notes"])
    for side, answer in view["answers"].items():
        yield from _facts(side, answer)


def plain(text: str, style: str = "") -> Text:
    """A text of any origin as it is, harmless to the terminal."""
    return Text(_clean(text), style)


def _clean(text: str) -> str:
    return "".join(letter if letter in _KEPT or unicodedata.category(letter)[0] != "C" else "�" for letter in text)


def _named(name: str, text: str) -> Text:
    return Text(f"{name:<11}", "dim") + plain(text)


def _table(*columns: str) -> Table:
    drawn = Table(box=None, pad_edge=False)
    for place, column in enumerate(columns):
        drawn.add_column(column, justify="left" if place < 2 else "right", overflow="fold")
    return drawn


def _answers(answers: Mapping[str, Any]) -> Table:
    drawn = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), expand=True)
    for side, answer in answers.items():
        cut = "" if answer["finish_reason"] == "stop" else f", ended by {_clean(str(answer['finish_reason']))}"
        style = "bold blue" if side == "chosen" else "bold dark_orange"
        head = f"{side}: answer {answer['index']}, reward {answer['reward']:.3g}, {answer['tokens']} tokens{cut}"
        drawn.add_column(Text(head, style), ratio=1, overflow="fold")
    drawn.add_row(*(plain(answer["text"]) for answer in answers.values()))
    return drawn


def _scores(answers: Mapping[str, Any]) -> Table:
    drawn = Table(box=None, pad_edge=False)
    for name in ("score", *answers):
        drawn.add_column(name, justify="left" if name == "score" else "right")
    by_scorer: dict[str, dict[str, str]] = {}
    for side, answer in answers.items():
        for each in answer["scores"]:
            value = f"null: {_clean(str(each['reason']))}" if each["score"] is None else f"{each['score']:.3g}"
            by_scorer.setdefault(each["scorer"], {})[side] = value
    for scorer, values in by_scorer.items():
        drawn.add_row(plain(scorer), *(Text(values.get(side, "—")) for side in answers))
    drawn.add_row(Text("reward", "bold"), *(Text(f"{answer['reward']:.3g}", "bold") for answer in answers.values()))
    return drawn


def _replies(answers: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What the judge said with its ratings. Lists of facts are shown as facts."""
    told = [
        (side, each["scorer"], each["reply"])
        for side, answer in answers.items()
        for each in answer["scores"]
        if isinstance(each["reply"], str) and not (each["scorer"] == "faithfulness" and answer["facts"])
    ]
    if told:
        yield Text("\nthe judge's words", "bold")
    for side, scorer, reply in told:
        yield _indented(Text(f"{side}, {_clean(scorer)}: ", "dim") + plain(_short(reply, _REPLY)))


def _notes(notes: list[Mapping[str, Any]]) -> Iterator[RenderableType]:
    if notes:
        yield Text(f"\nnotes on the context, {len(notes):,} part{'s' * (len(notes) != 1)}", "bold")
    silent = 0
    for note in notes:
        if note.get("text") is None and note.get("reason") is None:
            silent += 1
            continue
        label = f"part {note['part']} of {note['of']} [{note['start']}, {note['end']}): "
        said = f"null: {note['reason']}" if note["text"] is None else note["text"]
        yield _indented(Text(label, "dim") + plain(_short(str(said), _PASSAGE)))
    if silent:
        yield _indented(Text(f"nothing relevant in {silent:,} of the parts", "dim"))


def _facts(side: str, answer: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Each fact with its verdict and, of the passages the judge saw, the nearest in words."""
    facts = answer["facts"]
    if not facts:
        if answer["no_facts"]:
            yield Text(f"\nthe {side} answer claims no fact", "bold")
        return
    yield Text(f"\nfacts of the {side} answer, each with the nearest of the passages that the judge saw", "bold")
    for fact in facts:
        word, style = _VERDICTS.get(fact["support"], (f"null: {_clean(str(fact['reason']))}", "magenta"))
        shared = Text(" (shared)", "dim") if fact["shared"] else Text("")
        yield _indented(Text(f"{word:<8}", style) + plain(fact["text"]) + shared)
        yield Padding(_passages(fact), (0, 0, 0, 10))


def _passages(fact: Mapping[str, Any]) -> RenderableType:
    if not fact["passages"]:
        return Text("no passage", "dim")
    places = [f"[{each['start']}, {each['end']})" for each in fact["passages"]]
    if fact["nearest"] is None:
        return Text(f"passages {' '.join(places)}", "dim")
    near = fact["passages"][fact["nearest"]]
    quote = Text(f"{places[fact['nearest']]} ", "dim") + plain(" ".join(_short(near["text"], _PASSAGE).split()))
    others = [place for number, place in enumerate(places) if number != fact["nearest"]]
    return Group(quote, Text(f"also seen: {' '.join(others)}", "dim")) if others else quote


def _short(text: str, characters: int) -> str:
    from tasks.reporting.dataset_card import shortened

    return shortened(text, characters)


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))
