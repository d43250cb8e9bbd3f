"""The sizing table of docs/operate.md: what `longmill plan` says of a few documents, times their number."""

import itertools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from flows.recipes import BOX
from infra.models.embedding.local import BOXED, model_place  # a tokenizer of English words that is at hand
from infra.recipe import load_recipe

DOCUMENTS = (10_000, 100_000, 1_000_000)
_SAMPLE = 1  # document that is planned; of several, which share text, the bytes would be too few
_TOKENS = 32_000  # of each
_PRICE = {"input_per_million": 1.0, "output_per_million": 3.0}  # of the judge, where it is paid


def sizing_table() -> str:
    """A row for each method of the box and number of documents."""
    from tasks.reporting.tables import bytes_in_words

    rows = [
        "| method | documents | answers | judge calls | policy, GPU hours | judge, GPU hours | or judge, paid | store |"
    ]
    rows.append("|---|---|---|---|---|---|---|---|")
    for method in ("sealong", "longreward"):
        view = _view(method)
        judge = view["judge"]
        judge_calls = sum(calls["total"] for calls in judge["calls"].values()) if judge else 0
        answers = sum(calls["total"] for calls in view["calls"].values())
        hours = view["sizing"]["gpu_hours"]
        for documents in DOCUMENTS:
            times = documents / _SAMPLE
            cells = [
                f"{method}, {view['samples']} samples",
                f"{documents:,}",
                f"{_rounded(answers * times):,}",
                f"{_rounded(judge_calls * times):,}" if judge else "none",
                f"{_rounded(hours['policy'] * times):,}",
                f"{_rounded(hours['judge'] * times):,}" if judge else "none",
                f"{_rounded(view['cost']['expected'] * times):,} USD" if judge else "none",
                bytes_in_words(view["sizing"]["store_bytes"] * times),
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _view(method: str) -> dict[str, Any]:
    """The estimate and the sizing of a small plan with the method's recipe, its documents given."""
    from infra.ledger import Ledger
    from infra.store import open_store
    from tasks.planning.estimate import estimate
    from tasks.planning.make_plan import make_plan
    from tasks.planning.sizing import JUDGE_SPEED, POLICY_SPEED, GpuSpeed, sizing

    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "questions.jsonl"
        _write_documents(source)
        changes = [
            f"questions.source={source}",
            "contexts.build=given",
            "contexts.articles=never",
            "contexts.pool=null",
            f"policy.tokenizer={model_place(BOXED)}",
            "policy.context_window=69632",
            f"store={name}/mill",
            "training=null",
        ]
        if method == "longreward":
            changes += [f"judge.tokenizer={model_place(BOXED)}", f"judge.price={json.dumps(_PRICE)}"]
        recipe = load_recipe(BOX[method], tuple(changes))
        store = open_store(recipe.store)
        plan = make_plan(recipe, store)
        with Ledger(store) as ledger:
            estimated = estimate(plan, recipe, store, ledger)
        # Hours of so few documents would be rounded to nothing.
        policy, judge = (GpuSpeed(speed.reads / 1000, speed.writes / 1000) for speed in (POLICY_SPEED, JUDGE_SPEED))
        sized = sizing(plan, estimated, recipe, store, policy, judge).to_json()
        sized["gpu_hours"] = {section: hours / 1000 for section, hours in sized["gpu_hours"].items()}
        return {**estimated.to_json(), "sizing": sized, "samples": recipe.sampling.samples}


def _write_documents(path: Path) -> None:
    """Documents of so many words of the packaged library."""
    from tasks.library import library_articles

    words = list(itertools.chain.from_iterable(article.text.split() for article in library_articles("en").values()))
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as lines:
        for number in range(_SAMPLE):
            start = rng.randrange(len(words))
            text = " ".join(itertools.islice(itertools.cycle(words), start, start + _words_of(words)))
            lines.write(json.dumps({"id": f"q{number}", "question": "What is it?", "context": text}) + "\n")


def _words_of(words: list[str]) -> int:
    """Words that have so many tokens; a word with its punctuation has more than one."""
    from infra.models.tokens import count_tokens, load_tokenizer

    (tokens,) = count_tokens(load_tokenizer(model_place(BOXED)), [" ".join(words[:2000])])
    return _TOKENS * 2000 // tokens


def _rounded(value: float) -> int:
    """To two digits."""
    digits = max(0, len(str(round(value))) - 2)
    return int(round(value, -digits))
