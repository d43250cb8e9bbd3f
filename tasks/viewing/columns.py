"""The columns of the indexes: of pairs, of questions, and of drops. Each is what a list shows, filters and sorts by."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.viewing.index import FILE, Columns

CHOSEN, REJECTED, DIFFERENCE = "chosen:", "rejected:", "difference:"  # and the scorer's name: its scores in an index

PAIR_COLUMNS = (
    "example_id",
    "question",
    "references",
    "kind",
    "language",
    "chosen_index",
    "rejected_index",
    "chosen_reward",
    "rejected_reward",
    "margin",
    "prompt_tokens",
    "chosen_tokens",
    "rejected_tokens",
    "chosen_scores",
    "rejected_scores",
)
QUESTION_COLUMNS = ("id", "question", "answers", "kind", "language", "difficulty", "tries")
DROP_COLUMNS = ("example_id", "stage", "reason", "detail")

ANSWER_COLUMNS = ("chosen", "rejected")
IN_ANSWERS = "in_answers"  # whether an answer of a pair has the text that is searched for
_SEARCHED = "searched"


def pair_columns(scorers: Sequence[str], splits: Sequence[str]) -> Columns:
    """What makes the index of pairs: scores by scorer, and the split of each file."""

    def columns(table: pa.Table) -> pa.Table:
        index = table.drop_columns(["references", "chosen_scores", "rejected_scores"])
        for scorer in scorers:
            chosen = _scores(table.column("chosen_scores"), scorer)
            rejected = _scores(table.column("rejected_scores"), scorer)
            index = index.append_column(CHOSEN + scorer, pa.array(chosen, from_pandas=True))
            index = index.append_column(REJECTED + scorer, pa.array(rejected, from_pandas=True))
            index = index.append_column(DIFFERENCE + scorer, pa.array(chosen - rejected, from_pandas=True))
        longer = pc.subtract(table.column("chosen_tokens"), table.column("rejected_tokens"))
        index = index.append_column("longer", longer)
        return _searchable(index, splits, table.column("references"))

    return columns


def answers_with(text: str) -> Columns:
    """What makes of the two answers of each pair, a list of messages each, whether one has this text; in any case."""

    def columns(table: pa.Table) -> pa.Table:
        hits = np.zeros(table.num_rows, bool)
        for name in ANSWER_COLUMNS:
            messages = table.column(name).combine_chunks()
            contents = pc.struct_field(pc.list_flatten(messages), "content")
            rows = pc.filter(pc.list_parent_indices(messages), pc.match_substring(contents, text, ignore_case=True))
            hits[rows.to_numpy(zero_copy_only=False)] = True
        return pa.table({IN_ANSWERS: pa.array(hits)})

    return columns


def question_columns(splits: Sequence[str]) -> Columns:
    """What makes the index of questions."""

    def columns(table: pa.Table) -> pa.Table:
        index = table.drop_columns(["answers"]).rename_columns({"id": "example_id"})
        return _searchable(index, splits, table.column("answers"))

    return columns


def drop_columns(table: pa.Table) -> pa.Table:
    """What makes the index of drops."""
    text = pc.binary_join_element_wise(table.column("example_id"), table.column("detail"), "\n")
    return table.append_column(_SEARCHED, pc.utf8_lower(text))


def _searchable(index: pa.Table, splits: Sequence[str], answers: pa.ChunkedArray) -> pa.Table:
    """The index with its split and with the text that a search looks at: id, question and reference answers."""
    joined = pc.binary_join(answers, " ")
    text = pc.binary_join_element_wise(
        index.column("example_id"), index.column("question"), joined, "\n", null_handling="replace"
    )
    index = index.append_column("split", pa.array(splits, pa.string()).take(index.column(FILE)))
    return index.append_column(_SEARCHED, pc.utf8_lower(text))


def _scores(entries: pa.ChunkedArray, scorer: str) -> np.ndarray:
    """The scores of one scorer, a row each; NaN where it gave none."""
    values = np.full(len(entries), np.nan)
    offset = 0
    for chunk in entries.chunks:
        flat = pc.list_flatten(chunk)
        of_scorer = pc.equal(pc.struct_field(flat, "scorer"), scorer)
        rows = pc.filter(pc.list_parent_indices(chunk), of_scorer).to_numpy(zero_copy_only=False)
        scores = pc.filter(pc.struct_field(flat, "score"), of_scorer).to_numpy(zero_copy_only=False)
        values[offset + rows] = scores
        offset += len(chunk)
    return values
