"""Whether evaluation questions were trained on: their n-grams are looked for in the rows that a model learned from.

A question has leaked where one training row has

- the same question (at least half of its n-grams; a short one as a whole) with the same reference, and, unless the
  question is longer than an n-gram, a twentieth of the context: a template such as "Write a summary of the report." or
  a name of a generated world comes again with another context and another answer, and that is no leak; or
- the same context: at least four fifths of its n-grams. Contexts that share some distractors have less. Where the
  questions are the test split of the training data itself, and a context is several documents that were drawn from the
  one pool, this is left out: in a small pool two draws may be nearly the same.

Leaves out: paraphrases and translations, which share no n-grams; what the base model has read before; and of pairs that
others published, their questions by themselves (they stand in the prompt, and so count with the context).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from infra.canonical import fingerprint
from infra.errors import ContaminationError
from tasks.evaluation.text_overlap import UNITS, TextIndex, units_of
from tasks.records.example import Context, Example

SAME_QUESTION, SAME_CONTEXT, SHARED_CONTEXT = 0.5, 0.8, 0.05  # shares of the evaluation side's n-grams
_NAMED = 3  # questions that an error names
_LISTED = 100  # leaks in the figures
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """What a model has learned from: `text` is the whole prompt; `question` is empty where it is not told apart."""

    row_id: str
    context_id: str
    question: str
    references: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Leak:
    """An evaluation question that was trained on, the first row that has it, and the shares that say so."""

    example_id: str
    row_id: str
    question: float
    context: float

    @property
    def words(self) -> str:
        """What was found, in words."""
        shared = [f"{100 * self.question:.0f}% of its question", f"{100 * self.context:.0f}% of its context"]
        return f"{self.example_id} ({' and '.join(shared)} in the training row {self.row_id})"


@dataclass(frozen=True, slots=True)
class Overlap:
    """What was measured. `context_mean` and `context_most`: of the shares of the evaluation contexts' n-grams in the
    training row that has most of them."""

    questions: int
    rows: int
    leaks: tuple[Leak, ...]
    context_mean: float
    context_most: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; of the leaks the first hundred, and "leaked", how many there are."""
        listed = [asdict(leak) for leak in self.leaks[:_LISTED]]
        return asdict(self) | {"leaks": listed, "leaked": len(self.leaks)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Overlap":
        """The measurement that `to_json` described."""
        fields = {name: field for name, field in value.items() if name != "leaked"}
        return Overlap(**{**fields, "leaks": tuple(Leak(**leak) for leak in value["leaks"])})


def measure_overlap(
    questions: Sequence[tuple[Example, Context]], rows: Iterable[TrainingRow], of_split: Collection[str] = ()
) -> Overlap:
    """Compare evaluation questions, at least one, with the rows that were trained on, which are read once.

    `of_split`: ids of the questions that are the test split of the training data.
    """
    contexts = {context.context_id: context.text for _, context in questions}
    places = {context_id: place for place, context_id in enumerate(contexts)}
    index = TextIndex(list(contexts.values()))
    index_of_questions = _QuestionIndex([example for example, _ in questions])
    questions_of_context: list[list[int]] = [[] for _ in contexts]
    for place, (example, context) in enumerate(questions):
        drawn = example.example_id in of_split and len(context.span_starts) > 1
        if not drawn:
            questions_of_context[places[context.context_id]].append(place)
    most = np.zeros(len(contexts))
    leaks: dict[str, Leak] = {}
    count, shares, last_context = 0, most, None
    same_context: list[int] = []  # questions whose context the row has
    for row in rows:
        count += 1
        if row.context_id != last_context:  # a dataset's rows of one context are neighbours
            shares, last_context = index.shares(row.text), row.context_id
            most = np.maximum(most, shares)
            same_context = []
            for number in np.flatnonzero(shares >= SAME_CONTEXT):
                same_context += questions_of_context[number]
        matches = index_of_questions.matches(row)
        for place in sorted({*matches, *same_context}):
            example, context = questions[place]
            leak = Leak(
                example.example_id,
                row.row_id,
                round(matches.get(place, 0.0), _DIGITS),
                round(float(shares[places[context.context_id]]), _DIGITS),
            )
            if place in same_context or _has_leaked(example, row, leak):
                leaks.setdefault(example.example_id, leak)
    mean, largest = (round(float(figure), _DIGITS) for figure in (most.mean(), most.max()))
    return Overlap(len(questions), count, tuple(leaks.values()), mean, largest)


def check_overlap(overlap: Overlap, allowed: bool) -> None:
    """Raises ContaminationError, naming the first questions, when some were trained on and that is not allowed."""
    if not overlap.leaks or allowed:
        return
    named = "; ".join(leak.words for leak in overlap.leaks[:_NAMED])
    raise ContaminationError(
        f"{len(overlap.leaks):,} of {overlap.questions:,} evaluation questions were trained on: {named}. Take them out "
        "of the evaluation or out of the training data; or set evaluation.allow_overlap: true, and the figures say so"
    )


def overlap_id(questions: Sequence[tuple[Example, Context]], training: str, of_split: Collection[str] = ()) -> str:
    """The identity of a measurement: the evaluation questions, and `training`, the hash of what was trained on."""
    contents = [[example.question, list(example.references), context.context_id] for example, context in questions]
    ids = [example.example_id for example, _ in questions]
    rules = [UNITS, SAME_QUESTION, SAME_CONTEXT, SHARED_CONTEXT]
    identity = {"questions": contents, "ids": ids, "training": training, "rules": rules, "of_split": sorted(of_split)}
    return fingerprint(identity)[:16]


def _has_leaked(example: Example, row: TrainingRow, leak: Leak) -> bool:
    """Whether a row with another context has the question."""
    if leak.question < SAME_QUESTION or not _same_reference(example.references, row.references):
        return False
    return leak.context >= SHARED_CONTEXT or len(units_of(example.question)) > UNITS


def _same_reference(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two questions have a reference in common, or one of them has none."""
    if not first or not second:
        return True
    return bool({tuple(units_of(text)) for text in first} & {tuple(units_of(text)) for text in second})


class _QuestionIndex:
    """The n-grams of evaluation questions; an exact text each, since questions are short."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._places: dict[str, list[int]] = {}
        self._sizes: list[int] = []
        for place, example in enumerate(examples):
            grams = set(_question_grams(example.question))
            self._sizes.append(len(grams))
            for gram in grams:
                self._places.setdefault(gram, []).append(place)

    def matches(self, row: TrainingRow) -> dict[int, float]:
        """By question, the share of its n-grams that the row's question has; those with none are left out."""
        counts: dict[int, int] = {}
        for gram in set(_question_grams(row.question)):
            for place in self._places.get(gram, ()):
                counts[place] = counts.get(place, 0) + 1
        return {place: count / self._sizes[place] for place, count in counts.items()}


def _question_grams(question: str) -> Iterator[str]:
    units = units_of(question)
    if units:
        for start in range(max(1, len(units) - UNITS + 1)):
            yield " ".join(units[start : start + UNITS])
