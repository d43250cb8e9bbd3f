"""The pages that show one thing: a dataset, a pair, its exact prompt, a question with all its answers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from flows.view.labelling import PERSON_COOKIE, label_form
from flows.view.places import place_of
from flows.view.rendering import page
from infra.errors import MissingError
from infra.models.tool_calls import json_text
from tasks.records.dataset import TOOLS
from tasks.records.product import PAIRS, QUESTIONS
from tasks.reporting.dataset_views import pair_details
from tasks.reporting.judged_questions import parse_evidence
from tasks.reporting.prompt_context import context_in
from tasks.viewing.library import DROPS, Entry, Library, ViewedDataset
from tasks.viewing.listing import Query
from tasks.viewing.overview import Overviews
from tasks.viewing.text import fact_spans, passages_of, word_diff

_VERDICTS = {1.0: "full", 0.5: "partial", 0.0: "none"}


def dataset_page(library: Library, overviews: Overviews, request: Request) -> str:
    """A dataset as a whole."""
    dataset = library.dataset(request.path_params["version"])
    others: list[Entry] = []
    figures: Mapping[str, Any] = {}
    for entry in library.entries():
        if entry.version == dataset.version:
            figures = overviews.of(entry)
        else:
            others.append(entry)
    return page("dataset", dataset=dataset, figures=figures, summary=dataset.summary, others=others)


def pair_page(library: Library, request: Request) -> str:
    """A pair: `n` is its place in the list of the URL's query, or `id` and `number` name it."""
    dataset = library.dataset(request.path_params["version"])
    query = Query.parse(request.query_params)
    place, around = place_of(dataset, PAIRS.name, query, request.query_params)
    row = dataset.row(PAIRS.name, place)
    evidence = dataset.evidence(PAIRS.name, place)
    number, count = dataset.number(PAIRS.name, place)
    view = pair_details(row, evidence, number, count)
    context = context_in(row["prompt"], row)
    answers = view["answers"]
    facts = [*answers["chosen"]["facts"], *answers["rejected"]["facts"]]
    note_spans = [(note["start"], note["end"]) for note in view["notes"] if "start" in note]
    diff = word_diff(answers["chosen"]["text"], answers["rejected"]["text"])
    person = request.cookies.get(PERSON_COOKIE, "")
    return page(
        "pair",
        labelling=label_form(library, dataset, place, person, blind=False),
        person=person,
        dataset=dataset,
        view=view,
        around=around,
        words=query.words(),
        diff=dict(zip(("chosen", "rejected"), diff, strict=True)),
        bars=_bars(answers, evidence),
        passages=None if context is None else passages_of(context, [*fact_spans(facts), *note_spans]),
        verdict=_verdict,
        raw=_raw,
        number=number,
    )


def prompt_page(library: Library, request: Request) -> str:
    """The messages that the policy was sent, to the letter."""
    dataset = library.dataset(request.path_params["version"])
    place, _ = place_of(dataset, PAIRS.name, Query(), request.query_params)
    row = dataset.row(PAIRS.name, place)
    tools = [json_text(tool) for tool in row.get(TOOLS) or ()]
    messages = []
    for message in row["prompt"]:
        calls = [json_text(call) for call in message.get("tool_calls", ())]
        messages.append({**message, "calls": calls})
    return page("prompt", dataset=dataset, row=row, tools=tools, messages=messages)


def question_page(library: Library, request: Request) -> str:
    """A question with all its answers, the best first; of a dataset of questions, the question with its proof."""
    dataset = library.dataset(request.path_params["version"])
    if dataset.product == QUESTIONS:
        return _written_question(dataset, request)
    example_id = request.query_params.get("id", "")
    config = PAIRS.name
    places = dataset.places(config, example_id)
    drops = [] if places else dataset.places(DROPS, example_id)
    if not places and not drops:
        raise MissingError(f"{dataset.name}: no question {example_id!r} among its pairs and drops")
    evidence = dataset.evidence(config, places[0]) if places else dataset.evidence(DROPS, drops[0])
    other = _other_judgements(library, request, example_id)
    answers = sorted(evidence, key=_rank)
    return page(
        "question",
        dataset=dataset,
        example_id=example_id,
        question=evidence[0]["question"] if evidence else (places[0]["question"] if places else ""),
        references=evidence[0]["references"] if evidence else [],
        pairs=places,
        drops=drops,
        answers=answers,
        other=other,
        raw=_raw,
        scores_of=_scores_of,
    )


def _written_question(dataset: ViewedDataset, request: Request) -> str:
    query = Query.parse(request.query_params)
    place, around = place_of(dataset, QUESTIONS.name, query, request.query_params)
    row = dataset.row(QUESTIONS.name, place)
    documents = []
    for number, document in enumerate(row["documents"]):
        spans = [(span["start"], span["end"]) for span in row["evidence"] if span["document"] == number]
        documents.append({"title": document["title"], "passages": passages_of(document["text"], spans)})
    return page("written", dataset=dataset, row=row, documents=documents, around=around, words=query.words())


def _bars(answers: Mapping[str, Any], evidence: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each dimension's scores of the chosen and the rejected answer, and their share of the scale, in [0, 1]."""
    scores: dict[str, list[float]] = {}
    for row in evidence:
        for judgement in row["judgements"]:
            if judgement["score"] is not None:
                scores.setdefault(judgement["scorer"], []).append(judgement["score"])
    sides = {side: {entry["scorer"]: entry for entry in answers[side]["scores"]} for side in answers}
    bars = []
    for scorer in dict.fromkeys([*sides["chosen"], *sides["rejected"]]):
        low, high = _scale(scores.get(scorer, [0.0]))
        bar: dict[str, Any] = {"scorer": scorer}
        for side, entries in sides.items():
            entry = entries.get(scorer, {"score": None, "reason": "not_judged"})
            score = entry["score"]
            share = 0.0 if score is None else (score - low) / (high - low)
            bar[side] = {"score": score, "reason": entry["reason"], "share": min(1.0, max(0.0, share))}
        bars.append(bar)
    return bars


def _scale(scores: Sequence[float]) -> tuple[float, float]:
    """Where a bar begins and ends: 0 to 1 or to 10 for scores in that range, else from the lowest to the highest."""
    low, high = min(scores), max(scores)
    if low < 0 or high > 10:
        return low, max(high, low + 1e-9)
    return 0.0, 1.0 if high <= 1 else 10.0


def _rank(answer: Mapping[str, Any]) -> tuple[bool, float, int]:
    """The best reward first; answers without one, which are not ranked, last."""
    reward = answer["reward"]
    return reward is None, -(reward or 0.0), answer["sample_index"]


def _verdict(support: float | None) -> str:
    return "null" if support is None else _VERDICTS.get(support, "partial")


def _raw(value: Any) -> str:
    """A reply as it came, or evidence as JSON text."""
    if isinstance(value, str):
        parsed = parse_evidence(value)
        value = parsed or value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _scores_of(answer: Mapping[str, Any]) -> list[tuple[str, float | None, str | None]]:
    return [(entry["scorer"], entry["score"], entry["reason"]) for entry in answer["judgements"]]


def _other_judgements(library: Library, request: Request, example_id: str) -> dict[str, Any]:
    """The rewards of the same question's answers in the dataset `with`, by sample index; empty without one."""
    version = request.query_params.get("with", "")
    if not version:
        return {}
    other = library.dataset(version)
    places = other.places(PAIRS.name, example_id)
    drops = [] if places else other.places(DROPS, example_id)
    evidence: list[dict[str, Any]] = []
    if places or drops:
        evidence = other.evidence(PAIRS.name, places[0]) if places else other.evidence(DROPS, drops[0])
    rows = {row["sample_index"]: row for row in evidence}
    return {"dataset": other, "rows": rows, "drops": drops}
