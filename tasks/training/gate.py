"""The gate before training: every row is encoded with the model's own chat template, and a bad row stops the run, or,
where the row may be dropped, is counted by its reason.

What passes is what is trained on: the encoded rows go to the trainers as they are, so nothing can be cut or
dropped later without being noticed. Pairs of one question become one tree: the prompt once, each distinct answer
once. An answer's tokens begin where the encoded prompt and one of the encoded prompts with an answer differ, which is
TRL's rule. `PairsFile` writes the trees to disk, as an Arrow stream that `datasets` maps into memory. Leaves out:
packing, and prompts with more than text.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from infra.errors import TrainingError
from infra.models.tokens import Tokenizer
from tasks.training.shared_prefix.layout import Tree

PairRow = Mapping[str, Any]
_QUESTIONS_AT_ONCE = 16  # questions whose texts are encoded together: a fast tokenizer uses all cores
_ROWS_PER_BATCH = 64  # of the file
_IDS = pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        pa.field("prompt_ids", _IDS, False),
        pa.field("answers", pa.list_(_IDS), False),
        pa.field("pairs", pa.list_(_IDS), False),
    ]
)


@dataclass(frozen=True, slots=True)
class EncodedTree:
    """Token ids of one question; `prompt_ids` + an answer is what the model reads."""

    example_id: str
    prompt_ids: list[int]
    answers: list[list[int]]  # each distinct one once
    pairs: list[tuple[int, int]]  # chosen and rejected, by their places in `answers`


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens of the target model. A row is a question; `histogram` is (upper end, rows) by the prompt with
    its longest answer."""

    rows: int
    prompt_max: int
    answer_max: int
    total_max: int
    tokens: int  # of all prompts and their answers; a prompt counts once
    merged: int  # rows whose last prompt tokens merge with an answer's first
    histogram: tuple[tuple[int, int], ...]
    pairs: int
    dropped: Mapping[str, int] = field(default_factory=dict)  # pairs by reason, of rows that may be dropped

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Lengths":
        """The lengths of a configuration file."""
        histogram = []
        for end, rows in value["histogram"]:
            histogram.append((int(end), int(rows)))
        return Lengths(**{**value, "histogram": tuple(histogram)})


def gate(
    rows: Iterable[PairRow],
    tokenizer: Tokenizer,
    max_length: int,
    *,
    add: Callable[[EncodedTree], None] | None = None,
) -> Lengths:
    """Encode and check all pairs; `add` is called with each question that passes.

    `rows` have example_id, prompt, chosen and rejected, the last three lists of messages {"role", "content"}. A row
    with a true value under `droppable` is dropped with its question and counted where another would stop the run.
    Neighbours with the same example_id and prompt are pairs of one question; a pair that comes again (a row that
    was drawn twice) begins another. Raises TrainingError, with the example_id and the remedy, for a question that is
    longer than `max_length` tokens, an empty answer, chosen equal to rejected, a doubled first token, or a chat
    template that renders the prompt differently when an answer follows.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise TrainingError("the base model's tokenizer has no chat template; train an instruct model, or give it one")
    counts = _LengthCounts(max_length)
    questions = _group_by_question(rows)
    while True:
        batch = list(itertools.islice(questions, _QUESTIONS_AT_ONCE))
        if not batch:
            break
        for tree in _encode(batch, tokenizer, counts):
            if add is not None:
                add(tree)
    return counts.lengths()


class PairsFile:
    """Writes encoded questions until it is closed; the file gets its name only when all are in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_suffix(".part")
        self._rows: list[EncodedTree] = []

    def __enter__(self) -> "PairsFile":
        self._sink = pa.OSFile(str(self._part), "wb")
        self._writer = pa.ipc.new_stream(self._sink, SCHEMA)
        return self

    def add(self, row: EncodedTree) -> None:
        """Add one more question."""
        self._rows.append(row)
        if len(self._rows) == _ROWS_PER_BATCH:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._writer.close()
        self._sink.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns: dict[str, list[Any]] = {}
        for name in SCHEMA.names:
            columns[name] = [getattr(row, name) for row in self._rows]
        self._writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=SCHEMA))
        self._rows.clear()


def read_trees(dataset: Any) -> Sequence[Tree]:
    """The lengths of every question of a `datasets` dataset of encoded rows, without reading their tokens."""
    import pyarrow.compute as pc

    prompts = pc.list_value_length(dataset.data.column("prompt_ids")).to_pylist()
    answer_counts = pc.list_value_length(dataset.data.column("answers")).to_pylist()
    answer_lengths = pc.list_value_length(pc.list_flatten(dataset.data.column("answers"))).to_pylist()
    trees: list[Tree] = []
    start = 0
    for prompt, count in zip(prompts, answer_counts, strict=True):
        trees.append(Tree(prompt, tuple(answer_lengths[start : start + count])))
        start += count
    return trees


@dataclass(slots=True)
class _Question:
    """Pairs of one prompt while they come in; `answers` are messages by their text."""

    name: str
    prompt: list[dict[str, str]]
    droppable: bool
    answers: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    pairs: list[tuple[str, str]] = field(default_factory=list)

    def takes(self, row: PairRow, pair: tuple[str, str]) -> bool:
        return (self.name, self.prompt) == (str(row["example_id"]), row["prompt"]) and pair not in self.pairs


def _group_by_question(rows: Iterable[PairRow]) -> Iterator[_Question]:
    """Neighbouring rows of one prompt together."""
    question: _Question | None = None
    for row in rows:
        pair = (_answer_text(row, "chosen"), _answer_text(row, "rejected"))
        if pair[0] == pair[1]:
            raise TrainingError(
                f"example {row['example_id']}: chosen and rejected are the same text; remove the row or build again"
            )
        if question is None or not question.takes(row, pair):
            if question is not None:
                yield question
            question = _Question(str(row["example_id"]), row["prompt"], bool(row.get("droppable")))
        question.pairs.append(pair)
        for side, text in zip(("chosen", "rejected"), pair, strict=True):
            question.answers.setdefault(text, row[side])
    if question is not None:
        yield question


class _UnfitError(Exception):
    """A question that cannot be trained on: `reason` is a word to count it under."""

    def __init__(self, reason: str, fault: str) -> None:
        super().__init__(fault)
        self.reason = reason


class _LengthCounts:
    """Counts rows and lengths; over-long rows are counted too, so that the error can name the length that fits all."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._rows = self._pairs = self._prompt = self._answer = self._tokens = self._merged = self._over = 0
        self._longest = ("", 0)
        self._histogram: Counter[int] = Counter()
        self._dropped: Counter[str] = Counter()

    def drop(self, question: _Question, fault: _UnfitError) -> None:
        """Count a question that may be dropped. Raises TrainingError for another."""
        if not question.droppable:
            raise TrainingError(str(fault)) from fault
        self._dropped[fault.reason] += len(question.pairs)

    def add(self, tree: EncodedTree, merged: bool, droppable: bool) -> bool:
        """Count an encoded question; whether it passes. One that is too long and may not be dropped does, until all
        are counted."""
        answer = max(map(len, tree.answers))
        total = len(tree.prompt_ids) + answer
        if droppable and total > self._max_length:
            self._dropped["too_long"] += len(tree.pairs)
            return False
        self._rows += 1
        self._pairs += len(tree.pairs)
        self._prompt = max(self._prompt, len(tree.prompt_ids))
        self._answer = max(self._answer, answer)
        self._tokens += len(tree.prompt_ids) + sum(map(len, tree.answers))
        self._merged += merged
        self._over += total > self._max_length
        self._histogram[1 << (total - 1).bit_length()] += 1
        if total > self._longest[1]:
            self._longest = (tree.example_id, total)
        return True

    def lengths(self) -> Lengths:
        if not self._rows and self._dropped:
            raise TrainingError(
                f"no pair is left: the gate dropped {dict(self._dropped)} (too_long: longer than {self._max_length} "
                "tokens); set training.max_length higher if the base model and the memory allow it, or mend the rows"
            )
        if not self._rows:
            raise TrainingError(
                "the dataset's train split has no pair; raise questions.limit, or lower pairing.min_margin or "
                "dataset.test_fraction"
            )
        name, length = self._longest
        if self._over:
            raise TrainingError(
                f"{self._over} of {self._rows} rows are longer than {self._max_length} tokens and would be cut; the "
                f"longest is example {name} with {length}: set training.max_length to {length} or more if the base "
                "model and the memory allow it, or build with a smaller contexts.max_tokens"
            )
        histogram = tuple(sorted(self._histogram.items()))
        return Lengths(
            self._rows,
            self._prompt,
            self._answer,
            length,
            self._tokens,
            self._merged,
            histogram,
            self._pairs,
            dict(self._dropped),
        )


def _encode(batch: list[_Question], tokenizer: Tokenizer, counts: _LengthCounts) -> Iterator[EncodedTree]:
    """The questions of a batch that pass, counted."""
    texts: list[str] = []
    rendered: list[_Question] = []
    for question in batch:
        try:
            texts += _render(question, tokenizer)
        except _UnfitError as fault:
            counts.drop(question, fault)
            continue
        rendered.append(question)
    if not rendered:
        return
    # The template writes the special tokens itself; adding them again is the doubled BOS of SeaLong's code.
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    start = 0
    for question in rendered:
        end = start + 1 + len(question.answers)
        try:
            tree, merged = _split(question, tokenizer, ids[start], ids[start + 1 : end])
        except _UnfitError as fault:
            counts.drop(question, fault)
        else:
            if counts.add(tree, merged, question.droppable):
                yield tree
        start = end


def _render(question: _Question, tokenizer: Tokenizer) -> list[str]:
    """The text of the prompt, and of the prompt with each answer."""
    if question.droppable:
        _check_plain(question, tokenizer)
    prompt = _apply_template(question, [], tokenizer, add_generation_prompt=True)
    texts = [prompt]
    for answer in question.answers.values():
        text = _apply_template(question, answer, tokenizer)
        if not text.startswith(prompt):
            raise _UnfitError(
                "template_differs",
                f"example {question.name}: the base model's chat template renders the prompt differently when an "
                "answer follows, so training would not see what the model sees; give the tokenizer a template for "
                "training",
            )
        texts.append(text)
    return texts


def _check_plain(question: _Question, tokenizer: Tokenizer) -> None:
    """Raises _UnfitError for texts that a chat template was applied to already: they would have its tokens twice."""
    special = tuple(tokenizer.all_special_tokens)
    for message in itertools.chain(question.prompt, *question.answers.values()):
        text = message["content"].strip()
        if text.startswith(special) or text.endswith(special):
            raise _UnfitError(
                "rendered_before",
                f"example {question.name}: a text begins or ends with a special token of the base model, so a chat "
                "template was applied before; give the texts without it",
            )


def _answer_text(row: PairRow, side: str) -> str:
    """The text of an answer; raises TrainingError when there is none."""
    messages = row[side]
    text = "".join(str(message["content"]) for message in messages)
    if not text.strip():
        raise TrainingError(f"example {row['example_id']}: {side} is empty; remove the row or build the dataset again")
    return text


def _apply_template(
    question: _Question, answer: list[dict[str, str]], tokenizer: Tokenizer, add_generation_prompt: bool = False
) -> str:
    from jinja2.exceptions import TemplateError

    messages = [*question.prompt, *answer]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt))
    except TemplateError as error:
        raise _UnfitError(
            "template_refuses", f"example {question.name}: the base model's chat template refuses it ({error})"
        ) from error


def _split(
    question: _Question, tokenizer: Tokenizer, prompt: list[int], with_answers: list[list[int]]
) -> tuple[EncodedTree, bool]:
    """Cut the encoded texts where they begin to differ; returns also whether the prompt and an answer share a token
    there."""
    start = min(_common_length(prompt, ids) for ids in with_answers)
    bos = tokenizer.bos_token_id
    if bos is not None and with_answers[0][:2] == [bos, bos]:
        raise _UnfitError(
            "doubled_first_token",
            f"example {question.name}: the text begins with {tokenizer.bos_token!r} twice; the chat template writes it "
            "and the prompt's text repeats it: remove it from the prompt",
        )
    places = {text: place for place, text in enumerate(question.answers)}
    pairs = []
    for chosen, rejected in question.pairs:
        pairs.append((places[chosen], places[rejected]))
    tree = EncodedTree(question.name, prompt[:start], [ids[start:] for ids in with_answers], pairs)
    if not (start and all(tree.answers)):
        raise _UnfitError(
            "no_tokens",
            f"example {question.name}: no tokens are left of the prompt or an answer; check the chat template",
        )
    return tree, start < len(prompt)


def _common_length(first: list[int], second: list[int]) -> int:
    """How many ids two lists share from their start."""
    if second[: len(first)] == first:
        return len(first)
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length
