"""Makes the pictures of the viewer in docs/view anew: `python -m tests.docs.screenshots`. It needs chromium and Pillow.

What they show is made up: pairs on a generated world, and the report of a build that never ran. The dates are fixed, so
a picture changes when the pages do.
"""

import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from flows.bench.status import make_plan_of_many_shards
from flows.reports import build_path
from infra.canonical import canonical_json, text_id
from infra.store import Store, open_store
from infra.store.lease import LEASES, Holder, Lease
from tasks.microworld.questions import Question, make_questions
from tasks.microworld.world import Fact, WorldDocument, make_world, write_documents
from tasks.records.plan import plan_path
from tests.docs.pages import ROOT
from tests.support.browser import served_pages
from tests.support.viewed import answer_row, pair_row, write_dataset

FOLDER = ROOT / "docs" / "view"
VERSION, OTHER = "680d0ee80503e020", "b1f0c7a2957d43e6"
SCORERS = ("helpfulness", "logicality", "completeness", "faithfulness")
WRITTEN = datetime(2026, 11, 28, 17, 15, 48, tzinfo=UTC).timestamp()
NARROW = {"width": 360, "height": 740}
WIDE = {"width": 1300, "height": 900}  # wide enough for facts and context beside each other
PAIRS = f"/datasets/{VERSION}/pairs"
PAIR = f"/datasets/{VERSION}/pair?n=5"


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        documents, questions = _world()
        rows = [_row(number, question, documents) for number, question in enumerate(questions)]
        drops = [{"example_id": "micro-11-000052", "stage": "pair", "reason": "tie", "detail": "all rewards are 8.5"}]
        write_dataset(store, [rows], version=VERSION, drops=drops, name="reports", scorers=SCORERS, evidence=_evidence)
        fewer = [row for row in rows if row["margin"] > 4]
        write_dataset(store, [fewer], version=OTHER, name="reports", scorers=SCORERS, evidence=_evidence)
        for manifest in Path(folder).glob("datasets/*/*/manifest.json"):
            os.utime(manifest, (WRITTEN, WRITTEN))
        run = f"/runs/{_running_build(store, Path(folder))}"
        with served_pages(folder) as pages:
            for name, path, scheme, size, full in (
                ("datasets", "/", "light", {**WIDE, "height": 420}, False),
                ("list", f"{PAIRS}?sort=margin", "light", WIDE, False),
                ("list-narrow-dark", f"{PAIRS}?sort=margin", "dark", NARROW, False),
                ("pair", PAIR, "light", WIDE, True),
                ("pair-dark", PAIR, "dark", WIDE, False),
                ("pair-narrow", PAIR, "light", NARROW, False),
                ("blind", f"/datasets/{VERSION}/blind?n=5", "light", WIDE, False),
                ("run", run, "light", WIDE, True),
                ("run-dark", run, "dark", WIDE, False),
                ("run-narrow", run, "light", NARROW, False),
            ):
                with pages.page(color_scheme=scheme, viewport=size, reduced_motion="reduce") as page:
                    page.goto(f"{pages.url}{path}")
                    if "/pair?" in path and size is WIDE:
                        page.locator("a[data-spans]").first.click()
                        page.evaluate("scrollTo(0, 0)")
                    _write(FOLDER / f"{name}.webp", page.screenshot(full_page=full))


def _write(path: Path, png: bytes) -> None:
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(path, "WEBP", lossless=True, method=6)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB")


def _world() -> tuple[list[WorldDocument], list[Question]]:
    world = make_world("screenshots", 40, "train")
    documents = write_documents(world)
    return documents, make_questions(world, documents, "screenshots", 52)


def _row(number: int, question: Question, documents: Sequence[WorldDocument]) -> dict[str, Any]:
    """A pair: the gold reasoning, and an answer that stops after its first fact."""
    others = [place for place in range(len(documents)) if place not in question.supports]
    places = [*question.supports, *others[number : number + 8]]
    titled = [documents[place] for place in sorted(places)]
    passages = [f"Passage {place}: {document.title}\n{document.text}" for place, document in enumerate(titled, 1)]
    context = "\n\n".join(passages)
    first, last = question.facts[0], question.facts[-1]
    values = [fact.value for document in titled for fact in document.facts if fact.relation == last.relation]
    wrong = next((value for value in values if value not in question.answers), titled[0].title)
    claims = [first.sentence] if len(question.facts) > 1 else []
    claims.append(Fact(last.subject, last.relation, wrong).sentence)
    chosen = f"I need to find {question.plan}.\n{question.reasoning}"
    rejected = f"In short:\n{' '.join(claims)}\nAnswer: {wrong}"
    scores = {"helpfulness": (10.0, 4.0), "logicality": (10.0, 7.0), "completeness": (9.0, 3.0)}
    scores["faithfulness"] = (10.0, 5.0 + number % 5)
    rewards = [sum(score[side] for score in scores.values()) / len(scores) for side in (0, 1)]
    text = question.question
    return pair_row(number) | {
        "prompt": [{"role": "user", "content": f"{context}\n\nQuestion: {text}"}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "example_id": f"micro-11-{number:06d}",
        "context_id": text_id(context),
        "question": text,
        "references": list(question.answers),
        "kind": question.kind,
        "language": "en",
        "chosen_index": 4,
        "rejected_index": 5,
        "chosen_reward": rewards[0],
        "rejected_reward": rewards[1],
        "margin": rewards[0] - rewards[1],
        "chosen_scores": [{"scorer": scorer, "score": score[0]} for scorer, score in scores.items()],
        "rejected_scores": [{"scorer": scorer, "score": score[1]} for scorer, score in scores.items()],
        "prompt_tokens": len(context.split()),
        "chosen_tokens": len(chosen.split()),
        "rejected_tokens": len(rejected.split()),
    }


def _evidence(pair: Mapping[str, Any], side: str, _: str) -> list[dict[str, Any]]:
    """The row of `evidence`: a fact for each sentence of the answer, with the passages that name its subject."""
    context = pair["prompt"][0]["content"].rpartition("\n\nQuestion: ")[0]
    facts = []
    sentences = pair[side][0]["content"].split("\n")[1].split(". ")
    for number, sentence in enumerate(sentences, 1):
        names = {word.strip(".") for word in sentence.split() if word[0].isupper() and word != "The"}
        passages = []
        for start, end in _paragraphs(context):
            if any(name in context[start:end] for name in names):
                passages.append([start, end])
        verdict = 0.0 if side == "rejected" and number == len(sentences) else 1.0
        fact = {"text": f"{sentence.rstrip('.')}.", "support": verdict, "passages": passages[:3] or [[0, 40]]}
        words_of_judge = "[[Fully supported]]" if verdict else "[[No support]] The text says nothing of it."
        facts.append({**fact, "reply": words_of_judge, "reason": None, "shared": False, "number": number, "key": "k"})
    note = {"part": 1, "of": 1, "start": 0, "end": len(context), "text": sentences[0], "reason": None}
    judgements = []
    for entry in pair[f"{side}_scores"]:
        words = {"reply": f"It answers what was asked. [[{entry['score']:g}]]"}
        evidence = {"facts": facts, "notes": [note]} if entry["scorer"] == "faithfulness" else words
        judgements.append({**entry, "reason": None, "evidence": json.dumps(evidence), "keys": []})
    return [answer_row(pair, side, judgements)]


def _paragraphs(context: str) -> list[tuple[int, int]]:
    """[start, end) of each passage."""
    spans = []
    start = 0
    for paragraph in context.split("\n\n"):
        spans.append((start, start + len(paragraph)))
        start += len(paragraph) + 2
    return spans


def _running_build(store: Store, folder: Path) -> str:
    """A plan that is built: its records, and a lease that nobody beats. Returns its id."""
    plan_id = make_plan_of_many_shards(folder, 40, 64)
    for index in range(24, 40):
        for path in store.list(f"plans/{plan_id}/shards"):
            if path.rpartition("/")[2].startswith(f"{index:04d}"):
                store.delete(path)
    recipe = json.loads(store.read(f"plans/{plan_id}/recipe.json"))
    recipe["name"] = "nightly-reports"
    for section, price in (("policy", 0.1), ("judge", 1.0)):
        if recipe[section]:
            recipe[section]["price"] = {"input_per_million": price, "output_per_million": 3 * price}
    store.write(f"plans/{plan_id}/recipe.json", json.dumps(recipe).encode())
    store.delete(f"plans/{plan_id}/shards/0023.json")
    error = {
        "error": "ModelError",
        "message": "support · shard 0023 · questions 1-16: 2 calls failed after all attempts",
    }
    store.write(f"plans/{plan_id}/shards/0023.failed.json", canonical_json({"shard": 23, "plan_id": plan_id, **error}))
    os.utime(folder / plan_path(plan_id), (WRITTEN, WRITTEN))
    words = "This model's maximum context length is 32768 tokens. However, you requested 33102 tokens"
    report = {
        "run": {"id": "d76e7d51-f381-44bb-960e-9d69bc784721", "name": "build nightly-reports"},
        "pages": "http://gpu-1:4200",
        "state": "running",
        "error": "",
        "started": "2026-11-28T17:16:21+00:00",
        "at": "2026-11-28T17:19:14+00:00",
        "questions": 40 * 64,
        "scored": 24 * 64 - 17,
        "per_minute": 378.9,
        "tokens_per_second": {"policy": {"prompt": 41_800.0, "completion": 2_310.0}},
        "in_flight": {"policy": 64, "judge": 192},
        "waits": {},
        "shards": [24, 25, 26],
        "runs": {"24": "a1", "25": "a2", "26": "a3"},
        "refused": [
            {
                "at": "2026-11-28T17:18:40+00:00",
                "model": "policy",
                "kind": "sample",
                "reason": "context_length",
                "words": words,
            }
        ],
        "dropped": [
            {
                "at": "2026-11-28T17:19:02+00:00",
                "shard": 22,
                "example_id": "report-2024-0711",
                "stage": "pair",
                "reason": "tie",
                "words": "all 8 rewards are 9.25",
            },
        ],
        "calls": {
            "policy": {"sample": _calls(12_160, 1_020, 103_000_000, 5_900_000)},
            "judge": {
                "facts": _calls(12_100, 0, 6_100_000, 900_000),
                "support": _calls(61_300, 5_100, 88_000_000, 240_000),
                "notes": _calls(1_540, 0, 12_900_000, 310_000),
                "helpfulness": _calls(12_150, 0, 7_300_000, 130_000),
                "logicality": _calls(12_150, 0, 7_200_000, 130_000),
                "completeness": _calls(12_140, 0, 14_100_000, 140_000),
            },
        },
        "earlier": {},
        "dataset": None,
    }
    store.write(build_path(plan_id), json.dumps(report).encode())
    since = "2026-11-28 17:16:21 UTC"
    holder = Holder("gpu-1", 19452, "build nightly-reports", since, "another machine", "1", "a" * 32)
    lease = Lease(store, f"{LEASES}/{plan_id}", holder)
    assert lease.try_to_take() is None
    return plan_id


def _calls(made: int, reused: int, prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    counts = {"made": made, "reused": reused, "retried": made // 800, "failed": 0}
    tokens = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return {**counts, **tokens, "cached_prompt_tokens": prompt_tokens * 7 // 8}


if __name__ == "__main__":
    main()
