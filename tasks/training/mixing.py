"""The training mix: short-context preference pairs beside the long ones, so that short tasks are not unlearned.

LongReward trains on both (arXiv 2410.21252). A row is a preference pair in one of the formats of `pair_formats`.
Every row of the set is checked before one is trained on, and the set has a hash over all its rows, whatever file they
are in. The draw is seeded: the counts of any two rows differ by at most one, so that none comes twice before all have
come once. Only one row is in memory at a time. Leaves out: the trainer's own shuffle, which spreads the short rows
among the long ones.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.canonical import canonical_json, seeded_random
from infra.errors import InputError
from infra.recipe import Mix
from infra.recipe.public import public_text
from tasks.questions.question import SourceRow
from tasks.questions.rows import read_rows
from tasks.training.pair_formats import RowError, read_pair

_NAMED_FAULTS = 3  # faults that an error names


@dataclass(frozen=True, slots=True)
class ShortPairs:
    """A short-context set that was read and checked. `content` is the sha256 over its rows."""

    settings: Mix
    content: str
    rows: int

    def rows_to_draw(self, long_rows: int) -> int:
        """Rows to draw beside `long_rows` questions of the dataset: their share, rounded, but at least one."""
        return max(1, int(self.settings.ratio * long_rows + 0.5)) if long_rows else 0

    def draw(self, long_rows: int, seed: int) -> Iterator[dict[str, Any]]:
        """The rows to train on, as the gate takes them, in the set's order; a row drawn twice comes twice.

        Raises InputError when the set is no longer what it was when it was read.
        """
        rounds, rest = divmod(self.rows_to_draw(long_rows), self.rows)
        once_more = Counter(seeded_random(seed, "mix").sample(range(self.rows), rest))
        digest = hashlib.sha256()
        for place, (row, pair) in enumerate(_pairs(self.settings)):
            if isinstance(pair, str) or place >= self.rows:
                break
            digest.update(canonical_json(pair))
            for _ in range(rounds + once_more[place]):
                yield {"example_id": _name(row), **pair}
        else:
            if digest.hexdigest() == self.content:
                return
        raise InputError(f"training.mix: {self.settings.source} changed while it was read; run again")

    def identity(self) -> dict[str, Any]:
        """The mix in a job's id: the content of its rows and their share, not the files' names."""
        return {"content": self.content, "ratio": self.settings.ratio}


@dataclass(frozen=True, slots=True)
class MixSummary:
    """The short-context part of what a model was trained on, for its card. `source` is fit to be published."""

    source: str
    content: str
    ratio: float
    available: int  # rows of the set
    rows: int  # of these, drawn for training and not too long for it


def mix_summary(short: ShortPairs, long_rows: int, dropped: int) -> MixSummary:
    """The mix as the card shows it; `dropped` of the drawn rows were too long."""
    settings = short.settings
    rows = short.rows_to_draw(long_rows) - dropped
    return MixSummary(public_text(settings.source), short.content, settings.ratio, short.rows, rows)


def read_short_pairs(settings: Mix | None) -> ShortPairs | None:
    """Read and check the whole set; None without a mix. Raises InputError naming the first unusable rows."""
    if settings is None:
        return None
    digest = hashlib.sha256()
    faults: list[str] = []
    rows = unusable = 0
    for row, pair in _pairs(settings):
        rows += 1
        if not isinstance(pair, str):
            digest.update(canonical_json(pair))
            continue
        unusable += 1
        if len(faults) < _NAMED_FAULTS:
            faults.append(f"{_name(row)}: {pair}")
    if unusable:
        raise InputError(
            f"training.mix: {unusable} of {rows} rows cannot be trained on ({'; '.join(faults)}); remove or mend them"
        )
    return ShortPairs(settings, digest.hexdigest(), rows)


def _pairs(settings: Mix) -> Iterator[tuple[SourceRow, dict[str, Any] | str]]:
    """Each row with its pair, or with what is wrong with it."""
    try:
        for row in read_rows(settings.source, settings.subset, settings.split):
            try:
                yield row, read_pair(row.values)
            except RowError as fault:
                yield row, str(fault)
    except InputError as error:
        raise InputError(f"training.mix: {error}") from error


def _name(row: SourceRow) -> str:
    return f"{public_text(row.file)}, row {row.number}"
