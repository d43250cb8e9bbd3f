"""Two datasets about the same questions: another judge, another recipe, another version. Where do they disagree?

Questions are matched by id, each with its first pair. An answer is the same where both datasets have its question and
its sample index, and their plans' answers come from the ledger: the same policy under the same sampling.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import InputError
from tasks.records.product import PAIRS
from tasks.viewing.library import LOOKUP_S, ViewedDataset

LIMIT = 200  # questions that a page shows
GROUPS = {
    "opposite": "what one chose, the other rejected",
    "other": "another chosen or rejected answer",
    "same": "the same pair",
    "first": "a pair in the first alone",
    "second": "a pair in the second alone",
}
_COLUMNS = ["example_id", "question", "chosen_index", "rejected_index", "margin"]


def compared_questions(first: ViewedDataset, second: ViewedDataset, only: str = "") -> dict[str, Any]:
    """{"counts": questions by one of GROUPS, "rows": the first LIMIT of those of the group `only`, or of those that
    disagree, by the sum of both margins}. Raises InputError for datasets that are not of pairs."""
    for dataset in (first, second):
        if dataset.product != PAIRS:
            raise InputError(f"{dataset.name}: a dataset of questions has no pairs to compare")
    tables = _first_pairs(first), _first_pairs(second)
    joined = tables[0].join(
        tables[1], "example_id", join_type="full outer", left_suffix=" a", right_suffix=" b", use_threads=False
    )
    group = _groups(joined)
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(group).to_pylist()}
    chosen = pc.equal(group, only) if only in GROUPS else pc.is_in(group, pa.array(["opposite", "other"]))
    weight = pc.add(pc.fill_null(joined.column("margin a"), 0.0), pc.fill_null(joined.column("margin b"), 0.0))
    rows = joined.append_column("group", group).append_column("weight", weight).filter(chosen)
    rows = rows.sort_by([("weight", "descending"), ("example_id", "ascending")]).slice(0, LIMIT)
    return {
        "counts": {name: counts.get(name, 0) for name in GROUPS},
        "words": GROUPS,
        "rows": rows.to_pylist(),
        "complete": first.index(PAIRS.name).complete and second.index(PAIRS.name).complete,
    }


def _first_pairs(dataset: ViewedDataset) -> pa.Table:
    """The first pair of each question; the pairs of a question are neighbours."""
    index = dataset.index(PAIRS.name)
    table = index.table(index.rows, LOOKUP_S)
    if table is None:
        return pa.table({name: pa.array([], pa.string()) for name in _COLUMNS})
    ids = table.column("example_id").combine_chunks()
    begins = pa.array([True] * min(1, len(ids)))  # where a question's rows begin
    return table.select(_COLUMNS).filter(pa.concat_arrays([begins, pc.not_equal(ids[1:], ids[:-1])]))


def _groups(joined: pa.Table) -> pa.ChunkedArray:
    """One of GROUPS for each row."""
    chosen, other_chosen = joined.column("chosen_index a"), joined.column("chosen_index b")
    rejected, other_rejected = joined.column("rejected_index a"), joined.column("rejected_index b")
    opposite = pc.or_(pc.equal(chosen, other_rejected), pc.equal(rejected, other_chosen))
    same = pc.and_(pc.equal(chosen, other_chosen), pc.equal(rejected, other_rejected))
    conditions = pc.make_struct(
        pc.is_null(other_chosen), pc.is_null(chosen), pc.fill_null(opposite, False), pc.fill_null(same, False)
    )
    return pc.case_when(conditions, "first", "second", "opposite", "same", "other")
