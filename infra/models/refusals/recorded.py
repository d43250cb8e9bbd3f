"""Refusals in the ledger: what each depended on, and when it is tried again.

A reply is for ever. A refusal of a prompt is not: a server that is started with a longer window takes what it has
refused. So the recorded error body has a field more, `longmill_listing`: how the endpoint's list of models had the
model at that time (`Listing`). A refusal is tried again where no endpoint of the model has it so any more; a content
filter shows in no list. With `retry` all refusals are tried again, and replies that the server has cut short. What
comes takes their place in the ledger.

A list is read when the first refusal is met, once per endpoint and run; without refusals never. An endpoint whose list
cannot be read says nothing: then nothing is tried again. A refusal without the field, from an earlier version, counts
as one of an endpoint that told no window.
"""

import http.client
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

from infra.canonical import canonical_json
from infra.ledger import Entry
from infra.models.refusals.rules import CONTENT_FILTER, classify_refusal, error_text, refusal_message
from infra.models.served_window import Listing, listing_in, read_models

FIELD = "longmill_listing"  # of a recorded error body


@dataclass(frozen=True, slots=True)
class CalledModel:
    """A model, its endpoints, and what a request to them needs."""

    name: str
    endpoints: tuple[str, ...]
    api_key: str | None
    headers: Mapping[str, str]


class RecordedRefusals:
    """The refusals that a run records, and those that it meets in the ledger. Thread-safe; a list may be waited for."""

    def __init__(
        self, models: Iterable[CalledModel] = (), *, retry: bool = False, say: Callable[[str], None] | None = None
    ) -> None:
        """`retry`: what was refused or cut short before this run is due.

        `say` gets a line when a model is listed otherwise.
        """
        self._models = list(models)
        self.retry = retry
        self._say = say
        self._lock = threading.Lock()  # guards the fields below
        self._bodies: dict[str, bytes | None] = {}  # lists of models by URL; None where one cannot be read
        self._recorded: set[str] = set()  # keys of this run's calls that were refused or did not end
        self._announced: set[str] = set()  # names of models

    def to_record(self, body: str, name: str, url: str, key: str) -> str:
        """The error body as the ledger keeps it, of a call to the model of this name at an endpoint."""
        listing = None
        for model in self._models:
            if model.name == name and url in _without_slash(model.endpoints):
                listing = self._listing(model, url)
        self.count_recorded(key)
        return with_listing(body, listing)

    def count_recorded(self, key: str) -> None:
        """This run has made the call, which was refused or did not end: it is not made once more."""
        with self._lock:
            self._recorded.add(key)

    def is_due(self, entry: Entry, has_alternative: bool = False) -> bool:
        """Whether a recorded call was refused, or cut short, and is to be made again.

        `has_alternative`: a refusal of the request's form has decided for another form. That decision stays, since
        another one would have other requests, which would all be paid for.
        """
        if not (entry.is_refusal or self.retry):
            return False
        with self._lock:
            if entry.key in self._recorded:
                return False
        if not entry.is_refusal:
            return entry.is_cut_short
        recorded = listing_of(entry.reply)
        listings = self._listings(entry.model)
        if not self.retry and FIELD in entry.reply and (not listings or recorded in listings):
            return False
        refusal = classify_refusal(entry.status, entry.reply)
        if has_alternative and refusal.subject != "prompt":
            return False
        if self.retry:
            return True
        if refusal.subject in ("account", "model", "form", "address") and FIELD not in entry.reply:
            return True  # earlier versions took it for one of the prompt
        if refusal.reason == CONTENT_FILTER or not listings or recorded in listings:
            return False
        self._announce(entry.model, recorded, listings)
        return True

    def _announce(self, name: str, recorded: Listing, listings: list[Listing]) -> None:
        with self._lock:
            first = name not in self._announced
            self._announced.add(name)
        if first and self._say is not None:
            now = " and ".join(map(_words, listings))
            self._say(f"{name} is served {now}, and was {_words(recorded)}: what it refused then is tried again")

    def _listings(self, name: str) -> list[Listing]:
        """How the endpoints of a model have it in their lists now, each way once."""
        listings: list[Listing] = []
        for model in self._models:
            if model.name != name:
                continue
            for url in _without_slash(model.endpoints):
                listing = self._listing(model, url)
                if listing is not None and listing not in listings:
                    listings.append(listing)
        return listings

    def _listing(self, model: CalledModel, url: str) -> Listing | None:
        with self._lock:
            if url not in self._bodies:
                try:
                    self._bodies[url] = read_models(url, model.api_key, model.headers)
                except (OSError, ValueError, http.client.HTTPException):
                    self._bodies[url] = None
            body = self._bodies[url]
        return None if body is None else listing_in(body, model.name)


def with_listing(body: str, listing: Listing | None) -> str:
    """An error body with the listing as a field more; the server's words and their class stay what they are."""
    field = f'"{FIELD}":{canonical_json(asdict(listing) if listing else None).decode()}'
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    text = body.strip()
    if isinstance(parsed, dict):
        marked = f"{text[:-1]}{',' if parsed else ''}{field}}}"
    else:
        marked = f'{{"error":{text},{field}}}'
    if isinstance(parsed, dict | list | str) and refusal_message(marked) == refusal_message(body):
        return marked
    message = error_text(body).strip() or refusal_message(body) or "the server gave no words"
    encodable = message.encode("utf-8", "replace").decode()
    error = canonical_json({"error": {"message": encodable}}).decode()
    return f"{error[:-1]},{field}}}"


def listing_of(body: str) -> Listing:
    """The listing in a recorded error body; without one, that of an endpoint that told no window."""
    if FIELD not in body:
        return Listing()
    try:
        value = json.loads(body)[FIELD]
        return Listing(value["listed"], value["max_model_len"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Listing()


def _without_slash(urls: Iterable[str]) -> list[str]:
    return [url.rstrip("/") for url in urls]


def _words(listing: Listing) -> str:
    if not listing.listed:
        return "without being listed"
    return f"with max_model_len {listing.max_model_len:,}" if listing.max_model_len else "without a max_model_len"
