"""Preference pairs that others published, as training reads them: `longmill train --data`.

Every row of the source is read and checked before a model is loaded: it is a pair, or a drop with a reason that is
counted. The rows have a hash over all of them, whatever file they are in, which is part of the trained model's id.
Neighbouring rows of the same prompt are pairs of one question, as in Longmill's own datasets, but not for SFT. Memory
holds one row, and a hash of each. Leaves out: what only the base model's tokenizer can tell (gate.py).
"""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from infra.canonical import canonical_json
from infra.errors import InputError
from infra.recipe.public import public_text
from tasks.questions.question import SourceRow
from tasks.questions.rows import read_rows
from tasks.training.gate import Lengths
from tasks.training.pair_formats import ACCEPTED, RowError, has_pair, read_pair
from tasks.training.published import TrainSplit

UNKNOWN_LICENCE = "unknown"
_ROWS_LOOKED_AT = 20  # for one with the fields of a pair, before the source is refused
_NAMED_FAULTS = 3  # faults that an error names
_ENDINGS = re.compile(r"(\.(jsonl|json|ndjson|parquet|gz|bz2|xz|zst))+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PairSource:
    """Where pairs come from: a file, a folder, a URL or a hub name; `licence` is what the user states."""

    source: str
    subset: str | None = None
    split: str = "train"
    licence: str = UNKNOWN_LICENCE

    def to_json(self) -> dict[str, Any]:
        """As a flat JSON object."""
        return asdict(self)

    @property
    def cited(self) -> str:
        """The source, fit to be published: of a path on this machine its last part alone."""
        path = Path(self.source)
        return path.resolve().name if path.exists() else public_text(self.source)

    @property
    def name(self) -> str:
        """The last part of the source, as a name in the store: "pairs" for "/data/pairs.jsonl.gz"."""
        last = self.cited.rstrip("/").rpartition("/")[2]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", _ENDINGS.sub("", last)).strip(".-") or "pairs"


@dataclass(frozen=True, slots=True)
class ExternalPairs:
    """A source that was read and checked. `content` is the sha256 over its rows, `drops` counts rows by reason."""

    source: PairSource
    content: str
    source_rows: int
    questions: int  # groups of neighbouring pairs with the same prompt, or all pairs
    drops: Mapping[str, int]
    grouped: bool  # whether neighbouring pairs with the same prompt are of one question

    @property
    def name(self) -> str:
        """The name of the trained model's folder in the store."""
        return self.source.name

    @property
    def licence(self) -> str | None:
        """What the user stated; None where nothing was."""
        return None if self.source.licence == UNKNOWN_LICENCE else self.source.licence

    @property
    def rows(self) -> int:
        """Rows that are pairs, before the gate."""
        return self.source_rows - sum(self.drops.values())

    def check(self) -> None:
        """Nothing: `pairs` sees a source that was changed since it was read."""

    def pairs(self) -> Iterator[dict[str, Any]]:
        """The pairs in their order, as the gate takes them.

        Raises InputError when the source is no longer what it was when it was read.
        """
        digest = hashlib.sha256()
        name, prompt = "", None
        for row, pair in _checked_rows(self.source):
            digest.update(_row_bytes(pair))
            if isinstance(pair, RowError):
                continue
            if _prompt_of(pair) != prompt or not self.grouped:
                name, prompt = _name(row), _prompt_of(pair)
            yield {"example_id": name, **pair}
        if digest.hexdigest() != self.content:
            raise InputError(f"{self.source.source}: changed while it was read; run again")

    def count_questions(self) -> int:
        """Questions, before the gate."""
        return self.questions

    def identity(self) -> dict[str, Any]:
        """The data in a job's id: the content of its rows, not the files' names."""
        return {"data": self.content}

    def cited(self) -> str:
        """The rows that were trained on, for a card."""
        return f"content `{self.content}`"

    def summary(self) -> dict[str, Any]:
        """What the model's job.json says of the data; fit to be published."""
        settings = asdict(self.source) | {"source": self.source.cited}
        return {**settings, "content": self.content, "rows": self.source_rows, "drops": dict(self.drops)}


TrainingData: TypeAlias = TrainSplit | ExternalPairs


def read_external_pairs(source: PairSource, grouped: bool = True) -> ExternalPairs:
    """Read and check a whole source; without `grouped` each pair is a question: for a loss that reads one of each.

    Raises InputError when it cannot be read, has not the fields of preference pairs, or has no usable row.
    """
    check_fields(source)
    digest = hashlib.sha256()
    drops: Counter[str] = Counter()
    faults: list[str] = []
    rows = questions = 0
    prompt: Any = None
    for row, pair in _checked_rows(source):
        rows += 1
        digest.update(_row_bytes(pair))
        if not isinstance(pair, RowError):
            questions += _prompt_of(pair) != prompt or not grouped
            prompt = _prompt_of(pair)
            continue
        drops[pair.reason] += 1
        if len(faults) < _NAMED_FAULTS:
            faults.append(f"{_name(row)}: {pair}")
    if drops.total() == rows:
        raise InputError(
            f"{source.source}: none of its {rows} rows can be trained on ({'; '.join(faults)}); a row needs {ACCEPTED}"
        )
    return ExternalPairs(source, digest.hexdigest(), rows, questions, dict(sorted(drops.items())), grouped)


def all_drops(data: TrainingData, lengths: Lengths) -> dict[str, int]:
    """Rows of others' data by the reason why they are not trained on, the gate's included; empty for a manifest."""
    if not isinstance(data, ExternalPairs):
        return {}
    drops = Counter(data.drops) + Counter(lengths.unfit)
    drops["too_long"] += lengths.dropped_pairs - lengths.dropped_short
    return dict(sorted((+drops).items()))


def check_fields(source: PairSource) -> None:
    """Raises InputError when the source cannot be read, or its first rows have not the fields of preference pairs."""
    first_rows = list(itertools.islice(_rows(source), _ROWS_LOOKED_AT))
    if not any(has_pair(row.values) for row in first_rows):
        fields = ", ".join(sorted(first_rows[0].values)) or "no fields"
        raise InputError(f"{source.source}: not preference pairs: its first row has {fields}; a row needs {ACCEPTED}")


def _rows(source: PairSource) -> Iterator[SourceRow]:
    return read_rows(source.source, source.subset, source.split)


def _checked_rows(source: PairSource) -> Iterator[tuple[SourceRow, dict[str, Any] | RowError]]:
    """Each row with its pair, or with what is wrong with it; a pair that came before is wrong."""
    earlier: set[bytes] = set()
    for row in _rows(source):
        try:
            pair = read_pair(row.values)
        except RowError as fault:
            yield row, fault
            continue
        digest = hashlib.sha256(canonical_json(pair)).digest()[:16]
        yield row, RowError("duplicate", "the same pair came before") if digest in earlier else pair
        earlier.add(digest)


def _prompt_of(pair: Mapping[str, Any]) -> Any:
    """What the pairs of one question have in common."""
    return pair["prompt"], pair.get("tools")


def _row_bytes(pair: dict[str, Any] | RowError) -> bytes:
    return canonical_json({"drop": pair.reason} if isinstance(pair, RowError) else pair)


def _name(row: SourceRow) -> str:
    return f"{public_text(row.file)}, row {row.number}"
