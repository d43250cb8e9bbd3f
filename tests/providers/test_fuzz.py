"""Ten thousand mutated replies: nothing crashes, no score is invented, every question is in a pair or in a drop.

The mutations are seeded. The client, its scheduler, the judge's protocol and the pairing are the real ones; a function
stands in the place of the network.
"""

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from infra.errors import ModelError, RefusedError
from infra.models.client import Failure, ModelClient, Outcome, Reply, Request
from infra.models.completions import FINISHED
from infra.models.rates.waits import RateWaits
from infra.models.sending.transport import HttpResponse, Transport
from infra.recipe import Pairing
from tasks.judging.asking import ask_judge
from tasks.pairing import pair_example
from tasks.records.example import Drop, Example
from tasks.refused_answers import refusal_words
from tasks.sampling import answer_from
from tests.providers.cases import REFUSALS
from tests.providers.reply_cases import REPLIES
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import prompt
from tests.support.scripted_judge import judged_recipe, scoring_with
from tests.tasks.judging.test_asking import ask

pytestmark = pytest.mark.medium

ANSWERS = 6000  # replies to the policy, four to a question
RATINGS = 4000  # replies to the judge
STATUSES = (100, 200, 201, 204, 301, 400, 401, 402, 403, 404, 408, 410, 413, 418, 422, 429, 451, 500, 502, 529, 700)
INSERTED = (b"\x00", b"\xff\xfe", b"NaN", b"[" * 3000, b'{"error":', b"[[8]]", b"<|im_end|>", b"</s>", b" " * 900)
JUDGE = {
    "name": "j",
    "tokenizer": "microworld",
    "endpoints": ["http://127.0.0.1:9/v1"],
    "prompts": "terse",
    "structured": "never",
    "replies": 1,
}
ENDED = ("stop", "length", "eos_token", "end_turn", "max_tokens", "model_length", "model_context_window_exceeded")
ODD_VALUES = (None, True, -1, 10**40, 1e308, "", "\x00", "[[3]]", [], {}, [[]], {"text": "[[9]]"}, "stop", "\ud800")
ENDINGS = ("stop", "length", "abort", "error", None, 7, "STOP", ["stop"], "tool_calls")
PAIRING = Pairing(rule="best_vs_worst", min_scored=2, max_likeness=1.0)
Mutation = Callable[[bytes, random.Random], bytes]


def flipped(body: bytes, chance: random.Random) -> bytes:
    data = bytearray(body or b"\x00")
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def cut(body: bytes, chance: random.Random) -> bytes:
    return body[: chance.randint(0, len(body))]


def doubled(body: bytes, chance: random.Random) -> bytes:
    return body + chance.choice((b"", b"\n\n", b",")) + body


def spliced(body: bytes, chance: random.Random) -> bytes:
    place = chance.randint(0, len(body))
    part = chance.choice(INSERTED)
    return body[:place] + part + body[place:]


def encoded(body: bytes, chance: random.Random) -> bytes:
    text = body.decode("utf-8", "replace")
    encoding = chance.choice(("utf-16", "utf-8-sig", "latin-1", "cp1252", "utf-32", "gbk"))
    return chance.choice((gzip.compress(body), text.encode(encoding, "replace")))


def wrapped(body: bytes, chance: random.Random) -> bytes:
    before, after = chance.choice(((b"[", b"]"), (b'{"data":', b"}"), (b"data: ", b"\n\ndata: [DONE]"), (b"(", b")")))
    return before + body + after


def replaced(body: bytes, chance: random.Random) -> bytes:
    """JSON in which one value has become another."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return body
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, part in pairs:
            places.append((value, name))
            visit(part)

    visit(parsed)
    for _ in range(chance.randint(1, 3)):
        if places:
            value, name = chance.choice(places)
            value[name] = chance.choice(ENDINGS if name == "finish_reason" else ODD_VALUES)
    return json.dumps(parsed).encode()


MUTATIONS: tuple[Mutation, ...] = (flipped, cut, doubled, spliced, encoded, wrapped, replaced, replaced, replaced)


def mutated(chance: random.Random) -> HttpResponse:
    """A response that no server has sent yet. Raises what the network raises, now and then."""
    if chance.random() < 0.02:
        raise chance.choice((aiohttp.ClientPayloadError("cut"), TimeoutError(), aiohttp.ServerDisconnectedError()))
    reply = chance.random() < 0.7
    case: Any = chance.choice(REPLIES if reply else REFUSALS)
    body = case.raw.encode("utf-8", "surrogatepass") if isinstance(case.raw, str) else case.raw
    for _ in range(chance.choice((0, 1, 1, 2))):
        body = chance.choice(MUTATIONS)(body, chance)
    status = 200 if reply else case.status
    if chance.random() < 0.1:
        status = chance.choice(STATUSES)
    headers = web.Response(
        headers={"Retry-After": chance.choice(("0", "-1", "NaN", "soon", "", "Wed, 99 Foo 2026"))}
    ).headers
    return HttpResponse(status, body, headers)


class Network:
    """In the place of `Transport.post`: every request gets a mutated response, which is kept by the request's body."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.sent = 0
        self.last: HttpResponse | None = None

    async def post(self, body: bytes, route: str = "") -> HttpResponse:
        self.sent += 1
        self.last = None
        self.last = mutated(self.chance)
        return self.last


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network(14)
    monkeypatch.setattr(RateWaits, "is_limit", lambda *parts: False)  # nobody waits for the next minute here
    monkeypatch.setattr(Transport, "post", lambda transport, body, route="": network.post(body, route))
    return network


def client_with(ledger: MemoryLedger) -> ModelClient:
    return ModelClient(["http://127.0.0.1:9/v1"], "k", ledger, concurrency=1, attempts=1, backoff_s=0.0)


def outcome_of(client: ModelClient, request: Request) -> Outcome | None:
    """The outcome of one call; None where it stopped the run."""
    try:
        return client.complete([request])[0]
    except RefusedError as error:
        assert "the same command goes on" in str(error)
        return None


def test_every_question_is_in_a_pair_a_drop_or_a_run_that_stopped(network: Network) -> None:
    counts: Counter[str] = Counter()
    ledger = MemoryLedger()
    with client_with(ledger) as client:
        for number in range(ANSWERS // 4):
            shared = prompt(f"question {number}")
            answers, passing = [], False
            for index in range(4):
                request = Request("sample", "m", "main", shared, {"seed": index}, index, "c")
                outcome = outcome_of(client, request)
                recorded = ledger.entries.get(request.key)
                if outcome is None or (isinstance(outcome, Failure) and not outcome.permanent):
                    passing = True
                    assert recorded is None, "what may pass is recorded for ever"
                    continue
                assert recorded is not None
                assert (recorded.status == 200) == isinstance(outcome, Reply)
                answer = answer_from(str(number), request, outcome, "default")
                assert not answer.text or answer.finish_reason in FINISHED
                answers.append(answer)
                counts[answer.finish_reason] += 1
            if passing and len(answers) < 2:
                counts["stopped"] += 1
                continue
            rewards = {answer.id: float(len(answer.text)) for answer in answers if answer.text}
            example = Example(str(number), "?", "c", (), "", "en", "{}")
            found = pair_example(example, answers, rewards, PAIRING, 1, words=refusal_words(answers, ledger))
            counts["dropped" if isinstance(found, Drop) else "paired"] += 1
            for pair in () if isinstance(found, Drop) else found:
                chosen = next(answer for answer in answers if answer.sample_index == pair.chosen_index)
                assert chosen.finish_reason == "stop"
    assert ANSWERS <= network.sent <= ANSWERS + 9  # a form that is settled is a call more
    assert counts["stopped"] + counts["dropped"] + counts["paired"] == ANSWERS // 4
    assert min(counts["stopped"], counts["dropped"], counts["paired"]) > 20, counts
    assert {"stop", "length", "abort", "refused", "tool_calls", "prompt_too_long", "content_filter"} <= counts.keys()


def test_no_score_is_invented(network: Network) -> None:
    recipe = judged_recipe(judge=JUDGE)
    counts: Counter[str] = Counter()
    with client_with(MemoryLedger()) as client:
        scoring = scoring_with(client, recipe)  # type: ignore[arg-type]
        for number in range(RATINGS):
            try:
                (verdict,) = ask_judge([ask(f"rate {number}")], scoring)
            except ModelError:
                counts["stopped"] += 1
                continue
            assert (verdict.value is None) == (verdict.reason is not None)
            counts[verdict.reason or "rated"] += 1
            if verdict.value is not None:
                assert network.last is not None
                assert rating_is_there(network.last, verdict.value), network.last
    assert RATINGS <= network.sent <= RATINGS + 9
    assert counts["rated"] > RATINGS // 10
    assert counts.total() == RATINGS


def rating_is_there(response: HttpResponse, value: int) -> bool:
    """Whether the body holds this label, as a reader of its own finds it, in a reply that ended."""
    if response.status != 200:
        return False
    choice = json.loads(response.body)["choices"][0]
    content = json.dumps(choice["message"]["content"], ensure_ascii=False)
    ended = str(choice["finish_reason"]).lower() in ENDED
    return ended and re.search(rf"\[\[{value}\]\]", content) is not None
