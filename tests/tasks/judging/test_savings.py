"""What was saved is what would have been asked otherwise, where every answer's facts are known."""

from tasks.judging.savings import saved_calls
from tasks.scoring import judge_all, parse_scorers
from tests.support.scripted_judge import ScriptedJudge, bench_with, case_of, inside, judged_recipe


def test_saved_and_made_calls_add_up_to_the_methods_own() -> None:
    def says(request) -> str:  # type: ignore[no-untyped-def]
        text = inside(request, "statement") if request.kind == "support" else inside(request, "answer")
        quality = int(text.split()[1])
        if request.kind == "facts":
            own = [f"Answer {quality} has fact {number}." for number in range(12)]
            common = [f"Answers 5 to all share {number}." for number in range(3)]
            return "\n".join(f"<statement>{each}</statement>" for each in [*common, *own])
        if request.kind == "support":
            return "[[Fully supported]]" if int(text.split()[-1].rstrip(".")) < quality else "[[No support]]"
        return f"[[{quality}]]"

    recipe = judged_recipe({"scorer": "helpfulness", "weight": 3.0}, {"scorer": "faithfulness"})
    judge = ScriptedJudge(says)
    case = case_of(*(f"Answer {quality} speaks." for quality in range(10)))
    saved = saved_calls(judge_all([case], parse_scorers(recipe), bench_with(judge, recipe)))
    assert saved["pruned"] > 0
    assert saved["shared"] >= 3
    assert judge.calls["support"] + saved["shared"] + saved["pruned"] == 10 * 15
