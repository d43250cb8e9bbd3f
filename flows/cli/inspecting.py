"""Two verbs that read a published dataset: `longmill agreement` and `longmill inspect`. They call no model, except
for `agreement --bench`, which judges the answers of a reward bench.

Texts of models and documents are printed as plain text: without Rich's markup, and without the control characters
that a terminal would obey.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flows.cli.display import AsJson, console, finish, progress_unless_json, table
from infra.errors import InputError
from tasks.viewing.text import cleaned

_QUESTION_LENGTH = 60  # characters of a question in the list of pairs
_PASSAGE_LENGTH, _REPLY_LENGTH = 400, 300  # characters of a passage and of a reply; --json has all
_VERDICTS = {1.0: ("full", "green"), 0.5: ("partial", "yellow"), 0.0: ("none", "red")}

DatasetUrl = Annotated[str, typer.Argument(help="Folder or URL of a published dataset.", metavar="DATASET")]


def agreement(
    dataset: Annotated[
        str,
        typer.Argument(help="Folder or URL of a published dataset; with --bench, a recipe.", metavar="DATASET"),
    ],
    labels: Annotated[
        str, typer.Option(help="People's labels (JSONL or Parquet), instead of the references.", metavar="FILE")
    ] = "",
    other: Annotated[
        str, typer.Option("--with", help="Dataset of the same answers, judged by another or again.", metavar="DATASET")
    ] = "",
    bench: Annotated[
        str,
        typer.Option(help="Reward bench whose answers the recipe's scorers judge: JSONL, Parquet or a folder."),
    ] = "",
    verifier: Annotated[
        str,
        typer.Option(
            help="Calibrate this recipe's verifier on the dataset's verdicts, write it to the store.", metavar="RECIPE"
        ),
    ] = "",
    cascade: Annotated[
        str,
        typer.Option(
            help="Calibrate this recipe's cascade on the dataset's scores, write it to the store.", metavar="RECIPE"
        ),
    ] = "",
    weights: Annotated[
        bool, typer.Option("--weights", help="Learn weights of the scorers on half of the contexts.")
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="With --bench, --verifier or --cascade: change a recipe key.", metavar="KEY=VALUE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare scores with references, labels, another judge's, a verifier's or a cascade's; a reward with a bench."""
    if sum(map(bool, (bench, verifier, cascade, weights))) > 1:
        raise InputError("agreement: --bench, --verifier, --cascade and --weights are different questions; give one")
    if weights:
        from flows.cli.learning import show_weights

        show_weights(dataset, labels, as_json)
        return
    if bench or verifier or cascade:
        if labels or other:
            option = "--bench is about a recipe" if bench else "the dataset has the judge's verdicts"
            raise InputError(f"agreement: {option}; leave out --labels and --with")
        if bench:
            _bench(dataset, bench, changes, as_json)
        elif verifier:
            _calibrate(dataset, verifier, changes, as_json)
        else:
            _calibrate_cascade(dataset, cascade, changes, as_json)
        return
    if changes:
        raise InputError(
            "agreement: --set changes a recipe, and a dataset has its own; give it with --bench, --verifier or "
            "--cascade"
        )
    from tasks.reporting.dataset_views import agreement_view

    view = agreement_view(dataset, labels, other)
    if not as_json:
        for part in agreement_page(view):
            console.print(part)
    finish(as_json, view, [])


def _calibrate(dataset: str, recipe: str, changes: list[str] | None, as_json: bool) -> None:
    """Calibrate a recipe's verifier, and show how far it can be trusted."""
    from flows.recipes import read_recipe
    from tasks.reporting.verdict_tables import verifier_rows, within_rows
    from tasks.reporting.verifier_calibration import calibrate_verifier

    view = calibrate_verifier(dataset, read_recipe(recipe, changes))
    if not as_json:
        facts = view["facts"]
        title = f"the verifier beside the judge, on {facts['measured']:,} facts; fitted on {facts['fitted']:,} others"
        console.print(table(title, *verifier_rows(view)))
        console.print(Text(""))
        console.print(table("", *within_rows(view)))
        console.print(Text(f"\nin the recipe, under verifier: calibration: {view['calibration']}"))
    finish(as_json, view, [])


def _calibrate_cascade(dataset: str, recipe: str, changes: list[str] | None, as_json: bool) -> None:
    """Calibrate a recipe's cascade, and show what each agreement would cost."""
    from flows.recipes import read_recipe
    from tasks.reporting.cascade_calibration import calibrate_cascade
    from tasks.reporting.cascade_tables import choice_rows

    view = calibrate_cascade(dataset, read_recipe(recipe, changes))
    if not as_json:
        title = f"the cascade replayed on {view['questions']:,} questions whose every answer is judged"
        console.print(table(title, *choice_rows(view)))
        console.print(Text(f"\nin the recipe, under scoring.cascade: calibration: {view['calibration']}"))
    finish(as_json, view, [])


def _bench(recipe: str, bench: str, changes: list[str] | None, as_json: bool) -> None:
    """A recipe's reward on a reward bench; the calls are paid for once."""
    from flows.cli.doctor import require_machine
    from flows.recipes import read_recipe

    settings = read_recipe(recipe, changes)
    with progress_unless_json(as_json):
        require_machine(settings)
        from flows.reward_bench import judge_bench

        outcome = judge_bench(settings, bench)
    if not as_json:
        from tasks.reporting.comparison_tables import bench_table_rows

        console.print(table(f"{settings.name} on {bench}", *bench_table_rows(outcome)))
        made = sum(counts["made"] for counts in outcome["calls"].values())
        reused = sum(counts["reused"] for counts in outcome["calls"].values())
        console.print(f"this run made {made:,} calls and reused {reused:,}")
    finish(as_json, outcome, [])


def inspect(
    dataset: DatasetUrl,
    pair: Annotated[str, typer.Option(help="Pair to show: its id, or how the id begins.", metavar="ID")] = "",
    question: Annotated[
        str, typer.Option(help="Question to show, of a dataset of questions: its id, or how it begins.", metavar="ID")
    ] = "",
    number: Annotated[int, typer.Option(min=1, help="Which of them, where its question has several.")] = 1,
    limit: Annotated[int, typer.Option(min=1, help="Pairs or questions to list, without an id.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show a dataset's pairs, or one pair with its scores, its facts and the passages that support them; of a dataset
    of questions, these, or one with its proof."""
    from tasks.records.product import QUESTIONS, product_of_counts
    from tasks.records.reader import read_dataset
    from tasks.reporting.dataset_views import pair_list, pair_view

    if number > 1 and not pair:
        raise InputError("--number tells the pairs of one question apart; give the question with --pair ID")
    published = read_dataset(dataset)
    if product_of_counts(published.manifest["counts"]) == QUESTIONS:
        _inspect_questions(published, pair, question, limit, as_json)
        return
    if question:
        raise InputError(f"{dataset}: a dataset of pairs; give the question of a pair with --pair ID")
    view = pair_view(published, pair, number) if pair else pair_list(published, limit)
    if not as_json:
        for part in pair_page(view) if pair else list_page(view):
            console.print(part)
    finish(as_json, view, [])


def _inspect_questions(published: Any, pair: str, question: str, limit: int, as_json: bool) -> None:
    from tasks.reporting.question_views import question_list, question_view

    if pair:
        raise InputError(f"{published.place}: a dataset of questions; give one with --question ID")
    view = question_view(published, question) if question else question_list(published, limit)
    if not as_json:
        for part in question_page(view) if question else questions_page(view):
            console.print(part)
    finish(as_json, view, [])


def agreement_page(view: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The tables of `agreement_view` that have rows, and a line for what has none."""
    from tasks.reporting import tables
    from tasks.reporting.cascade_tables import cascade_rows
    from tasks.reporting.verdict_tables import control_rows

    counts = view["agreement"]
    if counts:
        preferences = f"{counts['pairs']:,} preferences on {counts['questions']:,} questions"
        yield table(f"agreement with the {view['gold']}: {preferences}", *tables.agreement_rows(counts))
    else:
        yield Text("No reference tells two answers of a question apart; --labels FILE gives people's preferences.")
    unknown = view["unknown_labels"]
    if unknown:
        yield plain(f"{len(unknown):,} labels are about answers that are not in the dataset; the first: {unknown[0]}")
    judging = view["judging"]
    parts = [
        tables.gain_rows(counts),
        tables.rejudged_rows(view["rejudged"]),
        tables.length_rows(judging),
        tables.bias_rows(judging),
        tables.expected_rows(judging),
        tables.saved_rows(judging),
        control_rows(judging),
        cascade_rows(judging),
    ]
    for columns, rows in parts:
        if rows:
            yield Text("")
            yield table("", columns, rows)


def list_page(view: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The pairs as a table, and how many more there are; where there are none, the reasons."""
    if not view["pairs"]:
        yield from _no_pairs(view["drops"])
        return
    pairs = _table("pair", "question", "chosen", "rejected", "margin")
    for row in view["rows"]:
        option = f" --number {row['number']}" if row["number"] > 1 else ""  # as `longmill inspect` takes it
        figures = [f"{row[name]:.3g}" for name in ("chosen_reward", "rejected_reward", "margin")]
        pairs.add_row(plain(f"{row['example_id']}{option}"), plain(_start(row["question"])), *figures)
    yield pairs
    if view["more"]:
        yield Text(f"and {view['more']:,} more of {view['pairs']:,}; --limit shows more of them")


def _no_pairs(drops: Mapping[str, int]) -> Iterator[RenderableType]:
    """Sentences for a dataset without pairs: how many questions were dropped, by reason."""
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
    yield Text(f"pair {cleaned(view['example_id'])}{several} ({view['split']}), margin {view['margin']:.3g}", "bold")
    yield Text("")
    yield _field("question", view["question"])
    yield _field("references", " · ".join(view["references"]) or "none")
    characters = view["context"]["characters"]
    yield _field("context", "not found in the prompt" if characters is None else f"{characters:,} characters")
    yield Text("")
    yield _answers(view["answers"])
    yield Text("")
    yield _scores(view["answers"])
    yield from _replies(view["answers"])
    yield from _notes(view["notes"])
    for side, answer in view["answers"].items():
        yield from _facts(side, answer)


def questions_page(view: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The questions as a table with kind, answer and difficulty; how many more there are, and the drops."""
    if view["questions"]:
        questions = _table("question", "kind", "asks", "answer", "difficulty", texts=4)
        for row in view["rows"]:
            difficulty = "—" if row["difficulty"] is None else f"{row['difficulty']:.2f}"
            cells = [row["id"], row["kind"], _start(row["question"]), _start(" · ".join(row["answers"]))]
            questions.add_row(*map(plain, cells), difficulty)
        yield questions
        counts = ", ".join(f"{count:,} {kind}" for kind, count in view["kinds"].items())
        yield Text("")
        yield plain(f"{view['questions']:,} questions: {counts}")
        if view["more"]:
            yield Text(f"{view['more']:,} of them are not shown; --limit shows more of them")
    else:
        yield Text("no questions", "bold")
    if view["drops"]:
        yield Text(f"dropped: {sum(view['drops'].values()):,}")
    for reason, count in view["drops"].items():
        yield _indented(Text(f"{count:>7,}  ") + plain(reason))


def question_page(view: Mapping[str, Any]) -> Iterator[RenderableType]:
    """One question: its answers, its difficulty, its documents, and the sentences that prove it with their places."""
    yield Text(f"question {cleaned(view['id'])} ({view['split']}), {cleaned(view['kind'])}", "bold")
    yield Text("")
    yield _field("question", view["question"])
    yield _field("answer", " · ".join(view["answers"]) or "the documents do not say it")
    if view["difficulty"] is not None:
        wrong = round(view["difficulty"] * view["tries"])
        yield _field("difficulty", f"{view['difficulty']:.2f}: the policy is wrong in {wrong} of {view['tries']} tries")
    yield _field("written by", view["model"])
    yield Text("\ndocuments", "bold")
    for document in view["documents"]:
        page = f", from page {document['page']}" if document["page"] else ""
        yield _indented(
            plain(document["title"] or "untitled") + Text(f" {document['characters']:,} characters{page}", "dim")
        )
    yield Text("\nproof" if view["proof"] else "\nno proof", "bold")
    for sentence in view["proof"]:
        page = f", page {sentence['page']}" if sentence.get("page") else ""
        turn = f", turn {sentence['turn']} of the {sentence['role']}" if sentence.get("turn") else ""
        place = f"{cleaned(sentence['document'] or 'untitled')} [{sentence['start']}, {sentence['end']}){page}{turn}: "
        yield _indented(Text(place, "dim") + plain(" ".join(sentence["sentence"].split())))


def _start(text: str) -> str:
    """A text as one line, cut to the width of a list."""
    line = " ".join(text.split())
    return f"{line[:_QUESTION_LENGTH]}…" if len(line) > _QUESTION_LENGTH else line


def plain(text: str, style: str = "") -> Text:
    """A text of any origin as it is, harmless to the terminal."""
    return Text(cleaned(text), style)


def _field(name: str, text: str) -> Text:
    return Text(f"{name:<11}", "dim") + plain(text)


def _table(*columns: str, texts: int = 2) -> Table:
    """A table whose first columns are texts and the others figures."""
    result = Table(box=None, pad_edge=False)
    for position, column in enumerate(columns):
        result.add_column(column, justify="left" if position < texts else "right", overflow="fold")
    return result


def _answers(answers: Mapping[str, Any]) -> Table:
    """The chosen and the rejected answer side by side."""
    result = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), expand=True)
    texts = []
    for side, answer in answers.items():
        ending = "" if answer["finish_reason"] == "stop" else f", ended by {cleaned(str(answer['finish_reason']))}"
        ending += f", saw {cleaned(answer['seen'])}" if answer["seen"] else ""
        style = "bold blue" if side == "chosen" else "bold dark_orange"
        head = f"{side}: answer {answer['index']}, reward {answer['reward']:.3g}, {answer['tokens']} tokens{ending}"
        result.add_column(Text(head, style), ratio=1, overflow="fold")
        reasoning = plain(f"\n\nreasoning: {answer['reasoning']}", "dim") if answer["reasoning"] else Text()
        texts.append(plain(answer["text"]) + reasoning)
    result.add_row(*texts)
    return result


def _scores(answers: Mapping[str, Any]) -> Table:
    """A row for each scorer, and the reward; a column for each answer."""
    result = Table(box=None, pad_edge=False)
    result.add_column("score", justify="left")
    for side in answers:
        result.add_column(side, justify="right")
    by_scorer: dict[str, dict[str, str]] = {}
    rewards = []
    for side, answer in answers.items():
        for judgement in answer["scores"]:
            score = judgement["score"]
            value = f"null: {cleaned(str(judgement['reason']))}" if score is None else f"{score:.3g}"
            by_scorer.setdefault(judgement["scorer"], {})[side] = value
        rewards.append(Text(f"{answer['reward']:.3g}", "bold"))
    for scorer, values in by_scorer.items():
        result.add_row(plain(scorer), *[Text(values.get(side, "—")) for side in answers])
    result.add_row(Text("reward", "bold"), *rewards)
    return result


def _replies(answers: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The judge's replies with its ratings. A reply that lists facts is left out: `_facts` shows those."""
    replies = []
    for side, answer in answers.items():
        for judgement in answer["scores"]:
            lists_facts = judgement["scorer"] == "faithfulness" and answer["facts"]
            if isinstance(judgement["reply"], str) and not lists_facts:
                replies.append((side, judgement["scorer"], judgement["reply"]))
    if replies:
        yield Text("\nthe judge's words", "bold")
    for side, scorer, reply in replies:
        yield _indented(Text(f"{side}, {cleaned(scorer)}: ", "dim") + plain(_short(reply, _REPLY_LENGTH)))


def _notes(notes: list[Mapping[str, Any]]) -> Iterator[RenderableType]:
    if notes:
        yield Text(f"\nnotes on the context, {len(notes):,} part{'s' * (len(notes) != 1)}", "bold")
    irrelevant = 0
    for note in notes:
        if note.get("text") is None and note.get("reason") is None:
            irrelevant += 1
            continue
        label = f"part {note['part']} of {note['of']} [{note['start']}, {note['end']}): "
        text = f"null: {note['reason']}" if note["text"] is None else str(note["text"])
        yield _indented(Text(label, "dim") + plain(_short(text, _PASSAGE_LENGTH)))
    if irrelevant:
        yield _indented(Text(f"nothing relevant in {irrelevant:,} of the parts", "dim"))


def _facts(side: str, answer: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The answer's facts, with verdict and the passage nearest in words, of those that the judge saw."""
    facts = answer["facts"]
    if not facts:
        if answer["no_facts"]:
            yield Text(f"\nthe {side} answer claims no fact", "bold")
        return
    yield Text(f"\nfacts of the {side} answer, each with the nearest of the passages that the judge saw", "bold")
    for fact in facts:
        verdict, style = _VERDICTS.get(fact["support"], (f"null: {cleaned(str(fact['reason']))}", "magenta"))
        shared = Text(" (shared)", "dim") if fact["shared"] else Text("")
        if fact.get("by") == "verifier":
            shared += Text(f" (verifier, {fact['probability']:.2f})", "dim")
        yield _indented(Text(f"{verdict:<8}", style) + plain(fact["text"]) + shared)
        yield Padding(_passages(fact), (0, 0, 0, 10))


def _passages(fact: Mapping[str, Any]) -> RenderableType:
    if not fact["passages"]:
        return Text("no passage", "dim")
    spans = [f"[{passage['start']}, {passage['end']})" for passage in fact["passages"]]
    if fact["nearest"] is None:
        return Text(f"passages {' '.join(spans)}", "dim")
    text = fact["passages"][fact["nearest"]]["text"]
    nearest_span = spans.pop(fact["nearest"])
    quote = Text(f"{nearest_span} ", "dim") + plain(" ".join(_short(text, _PASSAGE_LENGTH).split()))
    if not spans:
        return quote
    return Group(quote, Text(f"also seen: {' '.join(spans)}", "dim"))


def _short(text: str, characters: int) -> str:
    from tasks.reporting.dataset_card import shortened

    return shortened(text, characters)


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))
