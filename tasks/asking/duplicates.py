"""Questions that repeat another, found when the questions of all shards are there, in the order of their ids.

Two questions are one when their texts are the same but for case, punctuation and articles; or when most of their words
are the same (MinHash finds candidates, the words themselves decide), their numbers are, and so is the answer. The one
with the smaller id stays. Memory holds the questions' texts and their hashes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from infra.recipe import Recipe
from infra.store import Store
from tasks.asking.checks import STAGE
from tasks.asking.matching import numbers_in
from tasks.documents.extra import load_library
from tasks.metrics import likeness
from tasks.records.example import Drop
from tasks.records.product import QUESTIONS
from tasks.records.shard import ShardResult
from tasks.sub_em import normalised, normalised_tokens, sub_em

NEAR_DUPLICATE = "near_duplicate"
_HASHES = 64  # of a question
_CANDIDATES_FROM = 0.5  # Jaccard; below the likeness of any two questions that are one


@dataclass(frozen=True, slots=True)
class QuestionText:
    """A question with what tells it from another."""

    example_id: str
    question: str
    answers: tuple[str, ...]


def repeated_questions(results: Sequence[ShardResult], recipe: Recipe, store: Store) -> dict[str, Drop]:
    """A drop for each question that repeats another, by its id."""
    assert recipe.asking is not None
    texts = []
    for result in results:
        table = result.files[QUESTIONS.name].read_checked(store, ["example_id", "question", "answers"])
        for row in table.to_pylist():
            texts.append(QuestionText(row["example_id"], row["question"], tuple(row["answers"])))
    texts.sort(key=lambda text: text.example_id)
    return find_repeats(texts, recipe.asking.checks.likeness)


def find_repeats(texts: Iterable[QuestionText], limit: float) -> dict[str, Drop]:
    """The drops of texts that come in the order of their ids."""
    datasketch = load_hashing()
    index = datasketch.MinHashLSH(threshold=_CANDIDATES_FROM, num_perm=_HASHES)
    first_by_text: dict[str, str] = {}
    by_id: dict[str, QuestionText] = {}
    repeats: dict[str, Drop] = {}
    for text in texts:
        plain = normalised(text.question)
        repeated = first_by_text.get(plain)
        hashes = datasketch.MinHash(num_perm=_HASHES)
        hashes.update_batch([token.encode("utf-8", "surrogatepass") for token in normalised_tokens(text.question)])
        if repeated is None:
            for candidate in sorted(index.query(hashes)):
                if _is_repeat(text, by_id[candidate], limit):
                    repeated = candidate
                    break
        if repeated is not None:
            detail = f"{text.question} — repeats {repeated}"
            repeats[text.example_id] = Drop(text.example_id, STAGE, NEAR_DUPLICATE, detail)
            continue
        first_by_text[plain] = text.example_id
        by_id[text.example_id] = text
        index.insert(text.example_id, hashes)
    return repeats


def load_hashing() -> ModuleType:
    """The library of MinHash. Raises PrerequisiteError where it is missing; a plan asks before anything is paid."""
    return load_library("datasketch", "finding questions that are nearly the same")


def without_repeats(counts: Mapping[str, Any], repeats: Iterable[Drop]) -> dict[str, Any]:
    """The counts of a dataset after repeated questions have become drops."""
    drops = Counter(counts["drops"])
    number = 0
    for drop in repeats:
        drops[drop.reason] += 1
        number += 1
    return {**counts, QUESTIONS.name: counts[QUESTIONS.name] - number, "drops": dict(sorted(drops.items()))}


def _is_repeat(text: QuestionText, other: QuestionText, limit: float) -> bool:
    if numbers_in(text.question) != numbers_in(other.question):
        return False
    if likeness(normalised(text.question), normalised(other.question)) < limit:
        return False
    if not text.answers or not other.answers:
        return text.answers == other.answers
    whole, other_whole = "; ".join(text.answers), "; ".join(other.answers)
    return sub_em(whole, other.answers) == 1.0 or sub_em(other_whole, text.answers) == 1.0
