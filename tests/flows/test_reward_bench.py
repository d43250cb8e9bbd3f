"""A recipe's reward on a reward bench, with a stub judge: paid for once."""

import json
from pathlib import Path

from flows.reward_bench import judge_bench
from tests.support.judge_replies import running_judge
from tests.support.judged_stub import judge_reply, judged_stub_recipe
from tests.support.stub_server import running_stub


def test_the_scorers_judge_every_answer_once(folder: Path) -> None:
    # The stub's rating is the answer's length modulo 11: of six sets two are right, three wrong, and one is a tie.
    answers = [("nine char", "one")] * 2 + [("four", "eight ch")] * 3 + [("same", "same")]
    rows = []
    for number, (chosen, rejected) in enumerate(answers):
        rows.append({"id": number, "prompt": f"Question {number}?", "chosen": chosen, "rejected": rejected})
    (folder / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with running_stub() as policy, running_judge(judge_reply) as judge:
        recipe = judged_stub_recipe(folder, policy, judge, batch_calls=4)
        recipe = recipe.model_copy(
            update={"scoring": recipe.scoring.model_copy(update={"scorers": ({"scorer": "helpfulness"},)})}
        )
        outcome = judge_bench(recipe, str(folder / "bench.jsonl"))
        again = judge_bench(recipe, str(folder / "bench.jsonl"))
    assert outcome["accuracy"]["value"] == round(2.5 / 6, 6)
    assert (outcome["accuracy"]["ties"], outcome["sets"], outcome["answers"]) == (1, 6, 12)
    made = sum(counts["made"] for counts in outcome["calls"].values())
    assert made >= 11
    assert sum(counts["made"] for counts in again["calls"].values()) == 0
    assert {**again, "calls": {}} == {**outcome, "calls": {}}
