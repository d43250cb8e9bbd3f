"""A build with a policy and a judge that think: thinking is in columns of its own, counted, and nowhere else."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from flows.bench.stub_server import completion, stub_answer
from infra.recipe import Price, Recipe, Scoring
from infra.store import open_store
from tasks.training.published import read_train_split
from tests.support.judge_replies import prompt_in, running_judge
from tests.support.judged_stub import judge_reply, judged_stub_recipe
from tests.support.score_server import MODEL, running_scores
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

SECRET = "Rumination"  # in every piece of thinking


class ThinkingPolicy(StubServer):
    """Answers as the stub; the seed decides how its thinking comes. Every answer to question 0 is cut within it."""

    def _answer(self, raw: bytes, body: dict[str, Any], content: str) -> web.Response:
        answer = stub_answer(content, body["seed"])
        cut = "What is 0?" in content
        if cut:
            message = [{"content": f"<think>{SECRET}"}, {"content": None, "reasoning": SECRET}][body["seed"] % 2]
        else:
            message = [
                {"content": f"<think>\n{SECRET}: 好的。\n</think>\n\n{answer}"},
                {"content": f"{SECRET}: 好的。\n</think>\n\n{answer}"},
                {"content": answer, "reasoning_content": f"{SECRET}."},
            ][body["seed"] % 3]
        reply = completion(body["model"], answer, 2**20, raw, len(content.split()))
        choice = {"message": {"role": "assistant", **message}, "finish_reason": "length" if cut else "stop"}
        reply["choices"][0] |= choice
        reply["usage"] |= {"completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 40}}
        return web.json_response(reply)


def thinking_reply(body: dict[str, Any]) -> str:
    return f"<think>{SECRET}: <statement>{SECRET}</statement> [[0]]</think>\n{judge_reply(body)}"


def build(recipe: Recipe) -> dict[str, Any]:
    from flows.build import build as build_flow
    from flows.shard import shard_recipe

    return build_flow(shard_recipe(recipe))


def published_texts(store: Path, built: dict[str, Any]) -> str:
    """All that a reader of the dataset can see but for the columns of reasoning, and the shards' own tables."""
    folder = (store / built["dataset"]["manifest"]).parent
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*.md")]
    for path in (*folder.rglob("*.parquet"), *(store / "plans").rglob("*.parquet")):
        table = pq.read_table(path)
        texts.append(json.dumps(table.drop_columns(reasoning_columns(table)).to_pylist(), ensure_ascii=False))
    return "\n".join(texts)


def reasoning_columns(table: Any) -> list[str]:
    return [name for name in table.column_names if "reasoning" in name]


def rows_of(store: Path, built: dict[str, Any], config: str) -> list[dict[str, Any]]:
    folder = (store / built["dataset"]["manifest"]).parent
    rows: list[dict[str, Any]] = []
    for path in sorted((folder / config).rglob("*.parquet")):
        rows += pq.read_table(path).to_pylist()
    return rows


def check_reasoning(store: Path, built: dict[str, Any]) -> None:
    """Every answer's thinking is in its own columns, and its lengths are those of the answer alone."""
    answers = rows_of(store, built, "evidence")
    assert len(answers) == 18
    for answer in answers:
        assert answer["reasoning"].startswith(SECRET)
        assert (answer["completion_tokens"], answer["reasoning_tokens"]) == (50, 40)
        assert bool(answer["text"]) == (answer["finish_reason"] != "unfinished_thinking")
    pairs = rows_of(store, built, "data")
    for pair in pairs:
        for side in ("chosen", "rejected"):
            assert pair[f"{side}_reasoning"].startswith(SECRET)
            assert (pair[f"{side}_tokens"], pair[f"{side}_reasoning_tokens"]) == (10, 40)
    summary = json.loads(((store / built["dataset"]["manifest"]).parent / "summary.json").read_text())
    assert summary["histograms"]["sample_tokens"] == [[10, 18]]
    assert [value for value, _ in summary["histograms"]["chosen_tokens"]] == [10]
    with_reasoning = read_train_split(open_store(str(store)), built["dataset"]["manifest"], with_reasoning=True)
    for row in with_reasoning.pairs():
        assert row["chosen"][0]["reasoning_content"].startswith(SECRET)
        assert "chosen_reasoning" not in row
    without = read_train_split(open_store(str(store)), built["dataset"]["manifest"])
    assert all("reasoning_content" not in row["chosen"][0] for row in without.pairs())


def test_thinking_is_paid_counted_and_in_columns_of_its_own(folder: Path) -> None:
    with running_stub(make=ThinkingPolicy) as policy, running_judge(thinking_reply) as judge:
        recipe = judged_stub_recipe(folder, policy, judge)
        priced = recipe.policy.model_copy(update={"price": Price(output_per_million=1000.0)})
        recipe = recipe.model_copy(update={"policy": priced})
        built = build(recipe)
        published = published_texts(folder / "store", built)
        assert SECRET not in published
        assert "think>" not in published
        assert "The answer is" in published
        check_reasoning(folder / "store", built)
        counts = built["dataset"]["counts"]
        assert counts["drops"]["unfinished_thinking"] == 1
        assert "unfinished_thinking: 3" in published
        assert counts["pairs"] > 0
        ledger = pq.read_table(folder / "store" / "ledger").column("reply").to_pylist()
        assert all(SECRET in reply for reply in ledger if "chat.completion" in reply)

        policy_counts = built["calls_by_model"]["policy"]["sample"]
        assert policy_counts["reasoning_tokens"] == 40 * policy_counts["made"] == 40 * 18
        assert built["calls"]["helpfulness"]["reasoning_tokens"] > built["calls"]["helpfulness"]["made"]  # tokenizer

        report = write(recipe, built)
        assert report["tokens"]["thinking"]["made"] > 40 * 18
        page = (folder / "store" / "reports" / "bench" / "report.html").read_text()
        assert "of which reasoning" in page
        assert f'cost of the reasoning</td><td class="n">{report["cost"]["thinking"]:.4f}' in page
        assert report["cost"]["thinking"] == pytest.approx(18 * 40 / 1000)
        assert SECRET not in page

        assert all(SECRET not in prompt_in(body) for body in judge.bodies)
        requests = policy.requests
        again = build(recipe)
        with_thinking = build(
            recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"reasoning": "keep"})})
        )
        assert policy.requests == requests  # the same replies, read again
        assert again["dataset"]["sha256"] == built["dataset"]["sha256"]
        assert with_thinking["plan_id"] != built["plan_id"] == again["plan_id"]
        assert f"<think>\\n{SECRET}.\\n</think>" in published_texts(folder / "store", with_thinking)
        assert all("reasoning" not in row for row in rows_of(folder / "store", with_thinking, "evidence"))


def test_a_reward_model_on_a_server_is_paid_once_by_whatever_way_a_run_goes_on(folder: Path) -> None:
    with (
        running_stub() as policy,
        running_judge(judge_reply) as judge,
        running_scores(lambda text: [len(text) / 100]) as rewards,
    ):
        price = {"input_per_million": 1e6}
        own = {"scorer": "reward_model", "model": MODEL, "endpoint": rewards.url, "price": price}
        plain = judged_stub_recipe(folder, policy, judge)
        recipe = plain.model_copy(update={"scoring": Scoring(scorers=(own, {"scorer": "helpfulness"}))})
        built = build(recipe)
        assert built["dataset"]["counts"]["pairs"] > 0
        calls = built["calls_by_model"]["reward_model"]
        assert calls["reward_model"]["made"] + calls["reward_model"]["reused"] == 18
        cost = write(recipe, built)["cost"]
        assert cost["models"]["reward_model"]["amount"] == sum(kind["prompt_tokens"] for kind in calls.values()) > 100

        requests = len(rewards.bodies)
        for result in (folder / "store" / "plans").rglob("shards/????.json"):
            result.unlink()
        again = build(recipe)  # its tasks are in Prefect's cache, its replies in the ledger
        assert len(rewards.bodies) == requests
        assert again["calls_by_model"]["reward_model"]["reward_model"]["reused"] == 18
        assert again["dataset"]["sha256"] == built["dataset"]["sha256"]


def write(recipe: Recipe, built: dict[str, Any]) -> dict[str, Any]:
    from tasks.reporting.report import write_report

    return write_report(open_store(recipe.store), "bench", recipe, built, None, None, built["seconds"])
