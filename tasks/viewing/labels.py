"""People's labels of a dataset's pairs: which of two answers is better, or that they are the same.

A person's labels are one file of the store, `labels/NAME/VERSION/PERSON.jsonl`, in the form that `longmill agreement
--labels` reads; the folder of all of them is read as one. A second label of the same pair by the same person replaces
the first. Each label says whether the scores were hidden (`blind`), and `first` is the answer that was on the left, so
that a habit of taking the left one can be seen.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from infra.canonical import fingerprint
from infra.errors import InputError, MissingError, StoreError
from infra.store import Store
from tasks.evaluation.statistics import sums_interval
from tasks.reporting.agreement import RESAMPLES, SAME, SEED
from tasks.reporting.verdict_agreement import cohens_kappa

PREFERRED = ("first", "second", SAME)
MOST_NOTE = 2000  # characters

_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_OUTCOMES = 3  # of a pair whatever its order: the lower sample index is better, the higher one, or the same

PairKey = tuple[str, int, int]  # example id, the lower and the higher sample index


@dataclass(frozen=True, slots=True)
class PersonsLabel:
    """A line of the file."""

    example_id: str
    first: int  # sample index of the answer on the left
    second: int
    preferred: str  # one of PREFERRED
    person: str
    note: str = ""
    blind: bool = False

    @property
    def pair(self) -> PairKey:
        """The pair that it is about, whatever its order."""
        return self.example_id, min(self.first, self.second), max(self.first, self.second)

    @property
    def outcome(self) -> int:
        """0 where the answer with the lower sample index is better, 1 where the other one is, 2 for the same."""
        if self.preferred == SAME:
            return 2
        better = self.first if self.preferred == "first" else self.second
        return int(better != min(self.first, self.second))


class Labels:
    """The labels of one dataset, in its store. One process writes a person's file at a time."""

    def __init__(self, store: Store, name: str, version: str) -> None:
        self._store = store
        self.folder = f"labels/{name}/{version}"
        self._lock = threading.Lock()

    @property
    def place(self) -> str:
        """The folder as a person would paste it."""
        return self._store.place(self.folder)

    def add(self, label: PersonsLabel) -> None:
        """Write a label. Raises InputError for one that `longmill agreement` could not read, StoreError."""
        check_person(label.person)
        if label.preferred not in PREFERRED or label.first == label.second:
            raise InputError(f"label of {label.example_id}: preferred is none of {', '.join(PREFERRED)}; choose one")
        if min(label.first, label.second) < 0:
            raise InputError(f"{label.example_id}: an answer of the stronger model is no sample; it cannot be labelled")
        with self._lock:
            labels = self.of(label.person)
            labels[label.pair] = label
            lines = [json.dumps(asdict(line), ensure_ascii=False) for line in labels.values()]
            self._store.write(
                f"{self.folder}/{label.person}.jsonl", ("\n".join(lines) + "\n").encode("utf-8", "replace")
            )

    def of(self, person: str) -> dict[PairKey, PersonsLabel]:
        """A person's labels; none where the person has written none. Raises StoreError for a damaged file."""
        path = f"{self.folder}/{check_person(person)}.jsonl"
        try:
            data = self._store.read(path).decode("utf-8")
        except MissingError:
            return {}
        labels = {}
        for number, line in enumerate(data.splitlines(), 1):
            try:
                label = PersonsLabel(**json.loads(line))
                labels[label.pair] = label
            except (ValueError, TypeError) as error:
                place = self._store.place(path)
                raise StoreError(f"{place}, line {number}: not a label ({error}); correct or remove it") from error
        return labels

    def people(self) -> list[str]:
        """Who has labelled, sorted."""
        files, _ = self._store.children(self.folder)
        names = [path.rpartition("/")[2].removesuffix(".jsonl") for path in files if path.endswith(".jsonl")]
        return [name for name in names if _PERSON.fullmatch(name)]


def check_person(person: str) -> str:
    """The name. Raises InputError for one that cannot be a file's name."""
    if not _PERSON.fullmatch(person):
        raise InputError("your name: up to 40 letters, digits, dots or dashes; it becomes the name of your file")
    return person


def is_swapped(person: str, pair: PairKey) -> bool:
    """Whether a person sees a pair's answers in turned order while the scores are hidden: by a draw of their name."""
    return int(fingerprint(["label", person, *pair])[:8], 16) % 2 == 1


def agreement_of_people(labels: Mapping[str, Mapping[PairKey, PersonsLabel]]) -> list[dict[str, Any]]:
    """Cohen's kappa of every two people over the pairs that both have labelled, with its interval over questions.

    [{"people": (one, other), "pairs", "same": share of pairs with the same outcome, "kappa", "low", "high"}]; figures
    are null where they are not defined.
    """
    rows = []
    for one, other in combinations(sorted(labels), 2):
        tables: dict[str, np.ndarray] = {}
        common = labels[one].keys() & labels[other].keys()
        agreed = 0
        for pair in sorted(common):
            outcomes = labels[one][pair].outcome, labels[other][pair].outcome
            agreed += outcomes[0] == outcomes[1]
            table = tables.setdefault(pair[0], np.zeros(_OUTCOMES**2))
            table[outcomes[0] * _OUTCOMES + outcomes[1]] += 1
        kappa = sums_interval(list(tables.values()), cohens_kappa, len(common), RESAMPLES, SEED)
        row = {"people": (one, other), "pairs": len(common), "same": agreed / len(common) if common else None}
        rows.append({**row, "kappa": kappa.value, "low": kappa.low, "high": kappa.high})
    return rows


def outcomes_of(labels: Mapping[PairKey, PersonsLabel], chosen: Mapping[PairKey, int]) -> dict[str, int]:
    """How often a person found the dataset's chosen answer better, the rejected one, or both the same.

    `chosen` is the sample index of the chosen answer, by pair. "left" counts the labels that preferred the left side.
    """
    counts = Counter({"chosen": 0, "rejected": 0, SAME: 0, "elsewhere": 0, "left": 0, "blind": 0})
    for pair, label in labels.items():
        counts["left"] += label.preferred == "first"
        counts["blind"] += label.blind
        if label.preferred == SAME:
            counts[SAME] += 1
        elif pair not in chosen:
            counts["elsewhere"] += 1
        else:
            better = pair[1 + label.outcome]
            counts["chosen" if better == chosen[pair] else "rejected"] += 1
    return dict(counts)
