"""The judge's protocol over real HTTP and a ledger: what is paid, what is paid again, what is no word at all."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from infra.errors import ModelError
from infra.models.client import ModelClient, Prompt
from infra.recipe import Judge
from tasks.judging.asking import ask_judge
from tasks.judging.cache import SharedCache
from tasks.judging.rating import read_expected
from tasks.judging.replies import read_notes, read_rating
from tasks.judging.steps import JudgeQuery, ReplyForm
from tasks.scoring import ScoringContext
from tests.support.judge_replies import Constraining, JudgeServer, logprobs_of, prompt_in, running_judge
from tests.support.memory_ledger import MemoryLedger
from tests.support.recipes_for_scoring import no_embedder
from tests.support.requests import client_of
from tests.support.scripted_judge import judged_recipe

RATING = ReplyForm("regex", r"[^\[\]]{1,1600}\[\[(10|[0-9])\]\]")


def ask(text: str = "rate it", **more: Any) -> JudgeQuery[Any]:
    settings: dict[str, Any] = {"read": read_rating, "max_tokens": 64, "form": RATING} | more
    return JudgeQuery("helpfulness", Prompt(({"role": "user", "content": text},)), "context", **settings)


@contextmanager
def bench_of(server: JudgeServer, ledger: MemoryLedger, **how: Any) -> Iterator[ScoringContext]:
    """A bench of a new process: its own client and memo, the ledger of all."""
    recipe = judged_recipe()
    judge = Judge(name="stub", tokenizer="microworld", endpoints=(server.url,), **how)
    with client_of(ledger, server, attempts=2) as client:
        yield ScoringContext(no_embedder, None, recipe.model_copy(update={"judge": judge}), client, SharedCache())


def test_a_second_run_over_the_same_ledger_makes_no_call_whatever_the_server_does() -> None:
    replies = {"good": "r [[7]]", "hopeless": "no idea"}
    behaviours: tuple[Constraining, ...] = ("obeys", "ignores", "refuses")
    for constraining in behaviours:
        ledger = MemoryLedger()
        with running_judge(lambda body: replies.get(prompt_in(body), "hello"), constraining) as server:
            asks = [ask("good"), ask("hopeless")]
            with bench_of(server, ledger) as bench:
                first = ask_judge(asks, bench)
            paid = server.requests
            with bench_of(server, ledger) as bench:
                assert ask_judge(asks, bench) == first
            assert server.requests == paid
            assert server.probes == 1
            expected = [7, 0] if constraining == "obeys" else [7, None]
            assert [word.value for word in first] == expected


def test_the_server_is_asked_once_whether_it_can_constrain_however_many_batches_there_are() -> None:
    with running_judge(lambda body: "r [[5]]", "refuses") as server, bench_of(server, MemoryLedger()) as bench:
        for number in range(5):
            ask_judge([ask(f"batch {number}")], bench)
        assert isinstance(bench.judge, ModelClient)
        assert (server.probes, server.requests) == (1, 6)
        assert bench.judge.counts()["probe"].reused == 0  # nor is the ledger asked for each batch
        assert all("structured_outputs" not in body for body in server.bodies[1:])


def test_without_a_form_or_when_told_never_the_server_is_not_asked_at_all() -> None:
    with running_judge(lambda body: "r [[5]]", "obeys") as server:
        with bench_of(server, MemoryLedger()) as bench:
            ask_judge([ask(form=None)], bench)
        with bench_of(server, MemoryLedger(), structured="never") as bench:
            ask_judge([ask()], bench)
        assert server.probes == 0


def test_a_form_that_the_server_refuses_after_all_is_left_out_and_never_sent_again() -> None:
    ledger = MemoryLedger()
    with running_judge(lambda body: "[[4]]", "obeys") as server:
        with bench_of(server, ledger) as bench:
            assert ask_judge([ask("the probe")], bench)[0].value is not None
        server.constraining = "refuses"
        with bench_of(server, ledger) as bench:
            (word,) = ask_judge([ask("a new one")], bench)
            assert (word.value, len(word.keys)) == (4, 1)
            sent = server.requests
        with bench_of(server, ledger) as bench:
            assert ask_judge([ask("a new one")], bench) == [word]
        assert server.requests == sent


def test_a_filtered_prompt_is_null_at_once_and_its_message_is_nobodys_notes() -> None:
    with (
        running_judge(lambda body: "r [[5]]", filter_word="POISON") as server,
        bench_of(server, MemoryLedger(), structured="never") as bench,
    ):
        asks = [ask("POISON", read=read_notes), ask("fine")]
        filtered, fine = ask_judge(asks, bench)
    assert (filtered.value, filtered.reason, len(filtered.keys)) == (None, "content_filter", 1)
    assert fine.value == 5
    assert server.requests == 2


def test_a_prompt_that_is_too_long_is_null_at_once() -> None:
    with (
        running_judge(lambda body: "r [[5]]", prompt_limit=10) as server,
        bench_of(server, MemoryLedger(), structured="never") as bench,
    ):
        long, fine = ask_judge([ask("word " * 20), ask("fine")], bench)
    assert (long.reason, fine.value, server.requests) == ("prompt_too_long", 5, 2)


def test_a_server_that_stays_down_raises_and_what_arrived_is_not_paid_again() -> None:
    ledger = MemoryLedger()
    with running_judge(lambda body: "r [[5]]", script=["ok", "500", "500"]) as server:
        with bench_of(server, ledger, structured="never") as bench:
            ask_judge([ask("a")], bench)
            with pytest.raises(ModelError, match="server_error"):
                ask_judge([ask("a"), ask("b")], bench)
        with bench_of(server, ledger, structured="never") as bench:
            assert [word.value for word in ask_judge([ask("a"), ask("b")], bench)] == [5, 5]
        assert server.paid_twice == 0


def test_hundreds_of_questions_go_out_in_rounds_and_only_the_open_ones_again() -> None:
    def says(body: dict[str, Any]) -> str:
        return "hm" if body["seed"] == 0 and prompt_in(body).endswith("7") else "r [[3]]"

    with (
        running_judge(says, latency=0.02) as server,
        bench_of(server, MemoryLedger(), structured="never") as bench,
    ):
        words = ask_judge([ask(f"number {number}") for number in range(300)], bench)
    assert {word.value for word in words} == {3}
    assert server.requests == 300 + 30
    assert server.max_in_flight > 30


def test_the_expected_rating_comes_from_the_logprobs_of_one_token() -> None:
    logprobs = logprobs_of(_7=math.log(0.6), _8=math.log(0.3), _Hm=math.log(0.1))
    own = ask(read=read_expected, max_tokens=1, form=None, reads="raw", parameters=(("logprobs", True),))
    with (
        running_judge(lambda body: ("7", "length"), logprobs=logprobs) as server,
        bench_of(server, MemoryLedger()) as bench,
    ):
        assert ask_judge([own], bench)[0].value == pytest.approx(10 / 9 * (0.6 * 7 + 0.3 * 8) / 0.9, abs=1e-6)
        server.logprobs = None
        assert ask_judge([replace(own, affinity="c", variant=1)], bench)[0].reason == "no_logprobs"


def test_a_client_keeps_a_refusal_once() -> None:
    ledger = MemoryLedger()
    with running_judge(lambda body: "hi", "refuses") as server:
        for _ in range(2):
            with bench_of(server, ledger) as bench:
                assert isinstance(bench.judge, ModelClient)
                ask_judge([ask(variant=0)], bench)
    assert sorted(entry.status for entry in ledger.entries.values())[-1] == 400
    assert sum(entry.status == 400 for entry in ledger.entries.values()) == 1
