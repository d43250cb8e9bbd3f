"""The gate before training: every row is encoded with the model's own chat template, and a bad row stops the run.

What passes is what is trained on: the encoded rows go to the trainers as they are, so nothing can be cut or
dropped later without being noticed. Pairs that are too long, and pairs of others that cannot be rendered, may be
dropped here, and are counted: rows read = pairs that pass + pairs dropped. Pairs of one question become one tree: the
prompt once, each distinct answer once. An answer's tokens begin where the encoded prompt and one of the encoded prompts
with an answer differ, which is TRL's rule. `PairsFile` writes the trees to disk, as an Arrow stream that `datasets`
maps into memory. Leaves out: packing, and prompts with more than text.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import pyarrow as pa

from infra.errors import BalanceError, TrainingError
from infra.models.tokens import NO_ARGUMENTS, Tokenizer
from infra.models.tool_calls import NO_TOOLS, Tools
from tasks.training.answer_form import REASONING_FIELD
from tasks.training.encoding import Row, RowEncoder
from tasks.training.rendering import Messages, UnfitError, check_plain
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
    """Token ids of one question; `prompt_ids` + an answer is what the model reads. Of a loss whose reference reads a
    short prompt, `short_prompt_ids` + the same answer is what that one reads; else they are empty."""

    example_id: str
    prompt_ids: list[int]
    answers: list[list[int]]  # each distinct one once
    pairs: list[tuple[int, int]]  # chosen and rejected, by their places in `answers`
    short_prompt_ids: list[int] = field(default_factory=list)


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
    dropped_pairs: int = 0  # longer than training.max_length; not in the other numbers
    dropped_questions: int = 0  # of these pairs' questions, those without a pair that fits
    dropped_short: int = 0  # of the dropped pairs, those of training.mix, each a question
    unfit: Mapping[str, int] = field(default_factory=dict)  # other dropped pairs, by reason

    def with_short(self, short: "Lengths") -> "Lengths":
        """These lengths together with those of the short-context pairs."""
        histogram = Counter(dict(self.histogram)) + Counter(dict(short.histogram))
        return Lengths(
            rows=self.rows + short.rows,
            prompt_max=max(self.prompt_max, short.prompt_max),
            answer_max=max(self.answer_max, short.answer_max),
            total_max=max(self.total_max, short.total_max),
            tokens=self.tokens + short.tokens,
            merged=self.merged + short.merged,
            histogram=tuple(sorted(histogram.items())),
            pairs=self.pairs + short.pairs,
            dropped_pairs=self.dropped_pairs + short.dropped_pairs,
            dropped_questions=self.dropped_questions + short.dropped_questions,
            dropped_short=short.dropped_pairs,
            unfit=self.unfit,
        )

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
    over_length: Literal["drop", "stop"] = "stop",
    unfit: Literal["drop", "stop"] = "stop",
    arguments: Mapping[str, Any] = NO_ARGUMENTS,
    short_prompts: bool = False,
) -> Lengths:
    """Encode and check all pairs; `add` is called with each question that passes, with those of its pairs that fit.

    `rows` have example_id, prompt, chosen and rejected, the last three lists of messages {"role", "content"}; those of
    a prompt may have tool calls (infra/models/tool_calls.py), and a row `tools`. An answer with "reasoning_content" is
    trained with it. `arguments` are what requests gave the chat template. `short_prompts`: the `short_prompt` of rows
    is encoded too; of a row without one, whose prompt is short already, it is the prompt.
    Neighbours with the same example_id and prompt are pairs of one question; a pair that comes again (a row that
    was drawn twice) begins another. Raises TrainingError, with the example_id and the remedy, for an empty answer,
    chosen equal to rejected, a doubled first token, or a chat template that renders the prompt differently when an
    answer follows; and for pairs longer than `max_length` tokens: for the first with `over_length` stop, with drop when
    they are more than half. `unfit` drop is for rows of others: questions that the template, or their own special
    tokens, spoil are counted by reason, and stop the run when they are more than half.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise TrainingError("the base model's tokenizer has no chat template; train an instruct model, or give it one")
    counts = _LengthCounts(max_length, over_length, unfit)
    encoder = RowEncoder(tokenizer, arguments)
    questions = _group_by_question(counts.counted(rows), short_prompts)
    while True:
        batch = list(islice(questions, _QUESTIONS_AT_ONCE))
        if not batch:
            break
        for tree, merged in _encode(batch, tokenizer, encoder, counts):
            fitting = _without_over_long(tree, max_length)
            counts.add(tree, fitting, merged)
            if add is not None and fitting is not None:
                add(fitting)
    return counts.lengths()


def pair_schema(short_prompts: bool) -> pa.Schema:
    """The columns of encoded questions; `short_prompts`: each has a second prompt."""
    return SCHEMA.append(pa.field("short_prompt_ids", _IDS, False)) if short_prompts else SCHEMA


class PairsFile:
    """Writes encoded questions until it is closed; the file gets its name only when all are in it."""

    def __init__(self, path: Path, schema: pa.Schema = SCHEMA) -> None:
        """`schema` names the attributes of a row that are written."""
        self._path = path
        self._schema = schema
        self._part = path.with_suffix(".part")
        self._rows: list[Any] = []

    def __enter__(self) -> "PairsFile":
        self._sink = pa.OSFile(str(self._part), "wb")
        self._writer = pa.ipc.new_stream(self._sink, self._schema)
        return self

    def add(self, row: Any) -> None:
        """Add one more question: an EncodedTree, or what else has the schema's attributes."""
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
        for name in self._schema.names:
            columns[name] = [getattr(row, name) for row in self._rows]
        self._writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=self._schema))
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
    prompt: Messages
    tools: Tools
    short_prompt: Messages | None = None  # None where it is not to be encoded
    answers: dict[str, Messages] = field(default_factory=dict)
    pairs: list[tuple[str, str]] = field(default_factory=list)

    @property
    def prompts(self) -> list[Messages]:
        """The prompts that its answers are encoded with."""
        return [self.prompt] if self.short_prompt is None else [self.prompt, self.short_prompt]

    def takes(self, row: PairRow, pair: tuple[str, str]) -> bool:
        prompt_of_row = str(row["example_id"]), row["prompt"], row.get("tools") or NO_TOOLS
        return (self.name, self.prompt, self.tools) == prompt_of_row and pair not in self.pairs


def _group_by_question(rows: Iterable[PairRow], short_prompts: bool) -> Iterator[_Question]:
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
            short_prompt = (row.get("short_prompt") or row["prompt"]) if short_prompts else None
            question = _Question(str(row["example_id"]), row["prompt"], row.get("tools") or NO_TOOLS, short_prompt)
        question.pairs.append(pair)
        for side, text in zip(("chosen", "rejected"), pair, strict=True):
            question.answers.setdefault(text, row[side])
    if question is not None:
        yield question


class _LengthCounts:
    """Counts rows and lengths; over-long rows are counted too, so that an error can name the length that fits all."""

    def __init__(self, max_length: int, over_length: Literal["drop", "stop"], unfit: Literal["drop", "stop"]) -> None:
        self._max_length, self._over_length, self.unfit = max_length, over_length, unfit
        self._read = 0
        self._rows = self._pairs = self._prompt = self._answer = self._total = self._tokens = self._merged = 0
        self._dropped_pairs = self._dropped_questions = 0
        self._unfit: Counter[str] = Counter()  # pairs by reason
        self._first_unfit = ""
        self._longest = ("", 0)  # of all rows, dropped or not
        self._histogram: Counter[int] = Counter()

    def counted(self, rows: Iterable[PairRow]) -> Iterator[PairRow]:
        """The rows, counted as they are read."""
        for row in rows:
            self._read += 1
            yield row

    def add(self, tree: EncodedTree, fitting: EncodedTree | None, merged: bool) -> None:
        """Count a question; `fitting` is what of it passes."""
        total = _longest_row(tree)
        if total > self._longest[1]:
            self._longest = (tree.example_id, total)
        if fitting is None:
            self._dropped_questions += 1
            self._dropped_pairs += len(tree.pairs)
            return
        total = _longest_row(fitting)
        self._rows += 1
        self._pairs += len(fitting.pairs)
        self._dropped_pairs += len(tree.pairs) - len(fitting.pairs)
        self._prompt = max(self._prompt, len(fitting.prompt_ids))
        self._answer = max(self._answer, *map(len, fitting.answers))
        self._total = max(self._total, total)
        self._tokens += len(fitting.prompt_ids) + sum(map(len, fitting.answers))
        self._merged += merged
        self._histogram[1 << (total - 1).bit_length()] += 1

    def drop(self, question: _Question, fault: UnfitError) -> None:
        """Count an unfit question. Raises TrainingError where it must stop the run."""
        if self.unfit == "stop":
            raise TrainingError(str(fault)) from fault
        self._unfit[fault.reason] += len(question.pairs)
        self._first_unfit = self._first_unfit or str(fault)

    def lengths(self) -> Lengths:
        """Raises TrainingError without a row, or for too many over-long ones; BalanceError when a row was lost."""
        if not self._read:
            raise TrainingError(
                "the dataset's train split has no pair; raise questions.limit, or lower pairing.min_margin or "
                "dataset.test_fraction"
            )
        dropped = self._dropped_pairs + self._unfit.total()
        if self._read != self._pairs + dropped:
            raise BalanceError(f"{self._read} pairs were read, but {self._pairs} pass the gate and {dropped} drop")
        if self._unfit.total() > self._read // 2:
            raise TrainingError(
                f"{self._unfit.total()} of {self._read} pairs cannot be trained on, more than half; the first: "
                f"{self._first_unfit}"
            )
        if self._dropped_pairs > (0 if self._over_length == "stop" else self._read // 2):
            raise self._too_long()
        return Lengths(
            rows=self._rows,
            prompt_max=self._prompt,
            answer_max=self._answer,
            total_max=self._total,
            tokens=self._tokens,
            merged=self._merged,
            histogram=tuple(sorted(self._histogram.items())),
            pairs=self._pairs,
            dropped_pairs=self._dropped_pairs,
            dropped_questions=self._dropped_questions,
            unfit=dict(sorted(self._unfit.items())),
        )

    def _too_long(self) -> TrainingError:
        name, length = self._longest
        rule = "training.over_length is stop" if self._over_length == "stop" else "more than half are not dropped"
        return TrainingError(
            f"{self._dropped_pairs} of {self._read} pairs are longer than {self._max_length} tokens, and {rule}; the "
            f"longest is of example {name}, with {length}: set training.max_length to {length} or more if the base "
            "model and the memory allow it, or build with a smaller contexts.max_tokens"
        )


def _longest_row(tree: EncodedTree) -> int:
    """Tokens of the prompt with its longest answer."""
    return len(tree.prompt_ids) + max(map(len, tree.answers))


def _without_over_long(tree: EncodedTree, max_length: int) -> EncodedTree | None:
    """The question with those of its pairs whose answers both fit, None when there is none."""
    room = max_length - len(tree.prompt_ids)
    if max(map(len, tree.answers)) <= room:
        return tree
    pairs = []
    for chosen, rejected in tree.pairs:
        if max(len(tree.answers[chosen]), len(tree.answers[rejected])) <= room:
            pairs.append((chosen, rejected))
    if not pairs:
        return None
    places: dict[int, int] = {}  # of the answers that stay, by their places before
    for pair in pairs:
        for place in pair:
            places.setdefault(place, len(places))
    answers = [tree.answers[place] for place in places]
    return replace(tree, answers=answers, pairs=[(places[chosen], places[rejected]) for chosen, rejected in pairs])


def _encode(
    batch: list[_Question], tokenizer: Tokenizer, encoder: RowEncoder, counts: _LengthCounts
) -> Iterator[tuple[EncodedTree, bool]]:
    """The questions of a batch that can be encoded; the others are counted."""
    rows: list[Row] = []
    rendered: list[_Question] = []
    for question in batch:
        answers = list(question.answers.values())
        try:
            if counts.unfit == "drop":
                check_plain(question.name, question.prompt, answers, tokenizer)
            rows_of_question: list[Row] = []
            for prompt in question.prompts:
                rows_of_question += encoder.rows(question.name, prompt, answers, question.tools)
        except UnfitError as fault:
            counts.drop(question, fault)
            continue
        rows += rows_of_question
        rendered.append(question)
    ids = iter(encoder.encode(rows))
    for question in rendered:
        encoded = []
        for _ in question.prompts:
            encoded.append((next(ids), list(islice(ids, len(question.answers)))))
        try:
            (tree, merged), *short_trees = [_split(question, tokenizer, *ids_of_prompt) for ids_of_prompt in encoded]
            for short, _ in short_trees:
                tree = _with_short_prompt(tree, short)
        except UnfitError as fault:
            counts.drop(question, fault)
        else:
            yield tree, merged


def _with_short_prompt(tree: EncodedTree, short: EncodedTree) -> EncodedTree:
    """A question with the prompt of the same question encoded over a short context."""
    if short.answers != tree.answers:
        raise UnfitError(
            "answer_differs",
            f"example {tree.example_id}: an answer has other tokens after the short prompt than after the long one, so "
            "that their log-probabilities cannot be compared; give the tokenizer a template whose generation prompt "
            "ends with a token of its own",
        )
    return replace(tree, short_prompt_ids=short.prompt_ids)


def _answer_text(row: PairRow, side: str) -> str:
    """The text of an answer, after its reasoning; raises TrainingError when there is no text."""
    messages = row[side]
    text = "".join(str(message["content"]) for message in messages)
    if not text.strip():
        raise TrainingError(f"example {row['example_id']}: {side} is empty; remove the row or build the dataset again")
    reasoning = "".join(message.get(REASONING_FIELD) or "" for message in messages)
    return f"{reasoning}\n\n{text}" if reasoning else text


def _split(
    question: _Question, tokenizer: Tokenizer, prompt: list[int], with_answers: list[list[int]]
) -> tuple[EncodedTree, bool]:
    """Cut the encoded texts where they begin to differ; returns also whether the prompt and an answer share a token
    there."""
    start = min(_common_length(prompt, ids) for ids in with_answers)
    bos = tokenizer.bos_token_id
    if bos is not None and with_answers[0][:2] == [bos, bos]:
        raise UnfitError(
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
        raise UnfitError(
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
