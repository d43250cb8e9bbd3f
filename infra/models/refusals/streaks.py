"""When refusals stop a run: after a few equal ones in a row, or when one call has used up its attempts.

A refusal of the account, the model or the form may be a stray one: a server that is starting, one of several behind a
gateway. So it counts only while no call to the same endpoint and model succeeds. A 4xx that no rule explains counts by
prompts. Where calls of the same kind have succeeded it is no matter of the form: then it is this prompt that the server
refuses. Plain state, no input or output.
"""

from infra.models.protocol import Request
from infra.models.refusals.rules import Refusal

LIMIT = 3  # refusals in a row that stop a run


class RefusalStreaks:
    """Refusals in a row by endpoint and model, and the kinds of calls that have succeeded."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], tuple[str, list[str]]] = {}  # subject, and what was refused
        self._succeeded: set[tuple[str, str]] = set()  # model and kind

    def count_success(self, url: str, request: Request) -> None:
        """A call to the endpoint has brought a reply."""
        if self._refused:
            self._refused.pop((url, request.model), None)
        self._succeeded.add((request.model, request.kind))

    def count_recorded(self, request: Request) -> None:
        """An earlier run has got a reply to such a request."""
        self._succeeded.add((request.model, request.kind))

    def is_of_prompt(self, request: Request, refusal: Refusal) -> bool:
        """Whether the server refuses this one prompt."""
        if refusal.subject == "unexplained":
            return (request.model, request.kind) in self._succeeded
        return refusal.subject == "prompt"

    def count_refusal(self, url: str, request: Request, refusal: Refusal) -> bool:
        """Count a refusal that lasts; whether it is time to stop."""
        place = url, request.model
        subject, refused = self._refused.get(place, ("", []))
        if subject != refusal.subject:
            refused = []
        what = request.prompt.digest if refusal.subject == "unexplained" else request.key
        if refusal.subject != "unexplained" or what not in refused:
            refused = [*refused[-LIMIT:], what]
        self._refused[place] = refusal.subject, refused
        return len(refused) >= LIMIT
