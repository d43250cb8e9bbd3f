"""People's labels on the pages: the form of a pair, the blind page, who has labelled what, and taking a label."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode

import pyarrow as pa
import pyarrow.compute as pc
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from flows.view.places import place_of
from flows.view.rendering import page
from infra.errors import InputError
from tasks.records.product import PAIRS
from tasks.reporting.prompt_context import context_in
from tasks.viewing.labels import MOST_NOTE, PairKey, PersonsLabel, agreement_of_people, is_swapped, outcomes_of
from tasks.viewing.library import LOOKUP_S, Library, ViewedDataset
from tasks.viewing.listing import Query

PERSON_COOKIE = "longmill-person"
_MOST_BYTES = 64 << 10  # of a form


def label_form(
    library: Library, dataset: ViewedDataset, place: Mapping[str, Any], person: str, *, blind: bool
) -> dict[str, Any] | None:
    """What the form of a pair needs: the answers by side, and the person's label of it; None where none can be kept."""
    try:
        labels = library.labels(dataset)
    except InputError:
        return None
    pair = _key(place)
    if pair[1] < 0:  # of the stronger model's answer, which agreement does not know
        return None
    sides = [place["chosen_index"], place["rejected_index"]]
    if blind and (is_swapped(person, pair) != (sides[0] > sides[1])):
        sides.reverse()
    label = labels.of(person).get(pair) if person else None
    return {"first": sides[0], "second": sides[1], "label": label, "most": MOST_NOTE, "blind": blind}


def blind_page(library: Library, request: Request) -> str:
    """A pair without its scores, its answers in an order that says nothing."""
    dataset = library.dataset(request.path_params["version"])
    library.labels(dataset)  # says why where labels cannot be written
    query = Query.parse(request.query_params)
    place, around = place_of(dataset, PAIRS.name, query, request.query_params)
    person = request.cookies.get(PERSON_COOKIE, "")
    form = label_form(library, dataset, place, person, blind=True)
    row = dataset.row(PAIRS.name, place)
    texts = {row[f"{side}_index"]: row[side][-1]["content"] for side in ("chosen", "rejected")}
    return page(
        "blind",
        dataset=dataset,
        row=row,
        around=around,
        person=person,
        labelling=form,
        answers=[texts[form["first"]], texts[form["second"]]] if form else [],
        context=context_in(row["prompt"], row),
    )


def labels_page(library: Library, request: Request) -> str:
    """Who has labelled how many pairs, with what outcome, and how far people agree with one another."""
    dataset = library.dataset(request.path_params["version"])
    labels = library.labels(dataset)
    by_person = {person: labels.of(person) for person in labels.people()}
    example_ids = {pair[0] for of_person in by_person.values() for pair in of_person}
    chosen = _chosen(dataset, example_ids)
    people = [{"person": name, "labels": len(own), **outcomes_of(own, chosen)} for name, own in by_person.items()]
    return page(
        "labels",
        dataset=dataset,
        people=people,
        kappas=agreement_of_people(by_person),
        folder=labels.place,
        dataset_folder=dataset.published.place,
    )


async def take_label(library: Library, request: Request) -> Response:
    """Write the label of a form, and lead to the next pair. Raises InputError for a form that is no label."""
    dataset = library.dataset(request.path_params["version"])
    labels = library.labels(dataset)
    body = await request.body()
    if len(body) > _MOST_BYTES:
        raise InputError("the form is too long; shorten the note")
    form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
    try:
        first, second = int(form.get("first", "")), int(form.get("second", ""))
    except ValueError as error:
        raise InputError("the form does not say which answers it is about; load the pair again") from error
    person, blind = form.get("person", "").strip(), form.get("blind") == "1"
    labels.add(
        PersonsLabel(
            example_id=form.get("example_id", ""),
            first=first,
            second=second,
            preferred=form.get("preferred", ""),
            person=person,
            note=form.get("note", "").strip()[:MOST_NOTE],
            blind=blind,
        )
    )
    kind = "blind" if blind else "pair"
    words = form.get("next") or urlencode({"id": form.get("example_id", "")})
    response = RedirectResponse(f"/datasets/{dataset.version}/{kind}?{words}", 303)
    response.set_cookie(PERSON_COOKIE, person, httponly=True, samesite="strict")
    return response


def _key(place: Mapping[str, Any]) -> PairKey:
    indices = sorted((place["chosen_index"], place["rejected_index"]))
    return place["example_id"], indices[0], indices[1]


def _chosen(dataset: ViewedDataset, example_ids: set[str]) -> dict[PairKey, int]:
    """The sample index of the chosen answer of every pair of these questions."""
    index = dataset.index(PAIRS.name)
    table = index.table(index.rows, LOOKUP_S)
    if table is None or not example_ids:
        return {}
    columns = table.select(["example_id", "chosen_index", "rejected_index"])
    rows = columns.filter(pc.is_in(columns.column("example_id"), pa.array(sorted(example_ids))))
    return {_key(row): row["chosen_index"] for row in rows.to_pylist()}
