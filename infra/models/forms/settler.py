"""The form of a model's requests while a run goes on: the recipe's at first, then what the server's refusals ask for.

The first call of a run is sent alone, so that a refusal of its form is met once; the call is then sent again in the new
form, which uses up none of its attempts. What was settled is said in one line, and remembered in the store for the
run: other processes, such as workers of its shards, begin with it. It is forgotten after some hours, since a server
may learn too. Used in one event loop; `recall` is called before, from any thread.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence

from infra.canonical import canonical_json, fingerprint
from infra.errors import MissingError
from infra.models.forms.refusals import STATUSES, form_after
from infra.models.forms.request_form import RequestForm, sent_fields
from infra.models.protocol import CHAT, Request
from infra.store import Store

FOLDER = "forms"  # in the store
REMEMBERED_S = 12 * 3600

_log = logging.getLogger(__name__)


class FormMemory:
    """What was settled for one model at its endpoints, in the store."""

    def __init__(self, store: Store, model: str, endpoints: Sequence[str], given: RequestForm) -> None:
        """`given` is the recipe's form: another one is settled anew."""
        self._store = store
        identity = [model, sorted(endpoints), dict(given.rename), sorted(given.omit)]
        self.path = f"{FOLDER}/{fingerprint(identity)[:16]}.json"

    def read(self, now: float) -> tuple[RequestForm, list[str]] | None:
        """The form and its lines; None when there is none, or an old one. `now` is in seconds of the epoch."""
        try:
            record = json.loads(self._store.read(self.path))
            if not 0 <= now - record["at"] < REMEMBERED_S:
                return None
            return RequestForm(record["rename"], frozenset(record["omit"]), record["seed_limit"]), record["lines"]
        except MissingError:
            return None
        except (ValueError, KeyError, TypeError):
            return None  # not ours to mend: the server's refusals will tell it again

    def write(self, form: RequestForm, lines: Sequence[str], now: float) -> None:
        """Remember a form."""
        record = {
            "rename": dict(form.rename),
            "omit": sorted(form.omit),
            "seed_limit": form.seed_limit,
            "lines": list(lines),
            "at": now,
        }
        self._store.write(self.path, canonical_json(record))


class FormSettler:
    """The form of one model's requests."""

    def __init__(
        self,
        form: RequestForm | None = None,
        memory: FormMemory | None = None,
        say: Callable[[str], None] = _log.warning,
        name: str = "the model",
    ) -> None:
        """`say` gets a line about what was settled; `name` begins it."""
        self.form = form or RequestForm()
        self.lines: list[str] = []  # what was settled, for reports
        self._memory = memory
        self._say = say
        self._name = name
        self._recalled = False

    def recall(self) -> None:
        """Take over what another process of the run has settled; the first call of it alone does anything."""
        if self._recalled:
            return
        self._recalled = True
        remembered = self._memory.read(time.time()) if self._memory else None
        if remembered is not None:
            self.form, lines = remembered
            for line in lines:
                self._tell(line)

    async def settles(
        self, used: RequestForm, request: Request, status: int, body: bytes, redact: Callable[[str], str]
    ) -> bool:
        """Whether a response refuses the form of a request so that it is to be sent again, in another form.

        `redact` takes secrets out of what is said and written.
        """
        if status not in STATUSES:
            return False
        before = self.form
        if not self.learn(used, request, status, redact(body.decode("utf-8", "replace"))):
            return False
        if self.form is not before:
            await asyncio.to_thread(self.remember)
        return True

    def learn(self, used: RequestForm, request: Request, status: int, body: str) -> bool:
        """Whether a refused request is to be sent again, since its form is another one now."""
        if request.route != CHAT:
            return False
        settled = form_after(used, sent_fields(request), status, body)
        if settled is None:
            return False
        form, change = settled[0].joined(self.form), settled[1]
        if form != self.form:  # else another call's refusal has taught it while this one was in flight
            self.form = form
            self._tell(change)
        return True

    def remember(self) -> None:
        """Write what was settled down for the other processes; blocks, so not in the event loop."""
        if self._memory is not None:
            self._memory.write(self.form, self.lines, time.time())

    def _tell(self, line: str) -> None:
        self.lines.append(line)
        self._say(f"{self._name}: {line}")
