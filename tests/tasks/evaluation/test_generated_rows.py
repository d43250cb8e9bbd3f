"""Generated suites as they are evaluated: what is sent together, and what the rows say."""

from collections.abc import Sequence
from pathlib import Path

from infra.models.client import ModelClient, Outcome, Request
from infra.store import open_store
from tasks.evaluation.evaluate import evaluate_model
from tasks.evaluation.suite_questions import read_suite_questions
from tasks.evaluation.suites import parse_suites
from tasks.judging.context import ScoringContext
from tests.support.memory_ledger import MemoryLedger
from tests.support.recipes_for_scoring import no_embedder, recipe_with
from tests.support.stub_server import running_stub


class WatchedClient(ModelClient):
    """A client that remembers its requests."""

    sent: tuple[Request, ...] = ()

    def complete(self, requests: Sequence[Request]) -> list[Outcome]:
        self.sent += tuple(requests)
        return super().complete(requests)


def test_questions_of_one_haystack_are_sent_together_and_rows_say_where_their_needle_was(tmp_path: Path) -> None:
    with running_stub() as stub:
        policy = {"name": "stub", "tokenizer": "microworld", "endpoints": [stub.url], "context_window": 4096}
        suites = [
            {"name": "needle", "lengths": [1000, 1500], "depths": [0, 1], "texts": 2, "threshold": 0},
            {"name": "kv", "lengths": [1000], "depths": [0.5], "texts": 1},
        ]
        recipe = recipe_with({"scorer": "consensus"}, policy=policy, evaluation={"suites": suites})
        questions = read_suite_questions(recipe, open_store(str(tmp_path)), None)
        client = WatchedClient(recipe.policy.endpoints, None, MemoryLedger())
        try:
            rows = evaluate_model(questions, ScoringContext(no_embedder, client, recipe))
        finally:
            client.close()
    affinities = [request.affinity for request in client.sent]
    assert affinities[:8] == [affinities[0]] * 4 + [affinities[4]] * 4
    assert len(set(affinities)) == 3
    cells = [(row.groups["length"], row.groups["depth"]) for row in rows[:4]]
    assert cells == [(1500, 1.0), (1500, 0.0), (1000, 1.0), (1000, 0.0)]
    for row in rows:
        assert int(row.groups["length"]) - 4 <= row.prompt_tokens <= int(row.groups["length"])
        assert not row.cut
    assert [row.suite for row in rows] == ["needle"] * 8 + ["kv"]
    assert isinstance(rows[-1].groups["position"], int)
    needle, pairs = parse_suites(recipe)
    assert needle.suite.summary(rows[:8], None, needle.settings) == {"effective_length": 1500}
    assert pairs.suite.summary(rows[8:], None, pairs.settings) == {"effective_length": None}
