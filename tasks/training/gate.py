"""The gate before training: every row is encoded with the model's own chat template, and a bad row stops the run.

What passes is what is trained on: the encoded rows go to the trainers as they are, so nothing can be cut or
dropped later without being noticed. Pairs of one question become one tree: the prompt once, each distinct answer
once. An answer's tokens begin where the encoded prompt and one of the encoded wholes part, which is TRL's rule.
Leaves out: packing, and prompts with more than text.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from infra.errors import TrainingError
from infra.models.tokens import Tokenizer

Row = Mapping[str, Any]
_BATCH = 16  # questions whose texts are encoded together: a fast tokenizer uses all cores


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

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Lengths":
        """The lengths of a configuration file."""
        ends = tuple((int(end), int(rows)) for end, rows in value["histogram"])
        return Lengths(**{**value, "histogram": ends})


def gate(
    rows: Iterable[Row],
    tokenizer: Tokenizer,
    max_length: int,
    *,
    keep: Callable[[EncodedTree], None] | None = None,
) -> Lengths:
    """Encode and check all pairs; each question that passes goes to `keep`.

    `rows` have example_id, prompt, chosen and rejected, the last three lists of messages {"role", "content"}.
    Neighbours with the same example_id and prompt are pairs of one question; a pair that comes again (a row that
    was drawn twice) begins another. Raises TrainingError, with the example_id and the remedy, for a question that is
    longer than `max_length` tokens, an empty answer, chosen equal to rejected, a doubled first token, or a chat
    template that renders the prompt differently when an answer follows.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise TrainingError("the base model's tokenizer has no chat template; train an instruct model, or give it one")
    tally = _Tally(max_length)
    remaining = _questions(rows)
    while batch := list(islice(remaining, _BATCH)):
        for tree, merged in _encoded(batch, tokenizer):
            tally.add(tree, merged)
            if keep is not None:
                keep(tree)
    return tally.finish()


@dataclass(slots=True)
class _Question:
    """Pairs of one prompt while they come in; `answers` are messages by their text."""

    name: str
    prompt: list[dict[str, str]]
    answers: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    pairs: list[tuple[str, str]] = field(default_factory=list)

    def takes(self, row: Row, pair: tuple[str, str]) -> bool:
        return (self.name, self.prompt) == (str(row["example_id"]), row["prompt"]) and pair not in self.pairs


def _questions(rows: Iterable[Row]) -> Iterator[_Question]:
    """Neighbouring rows of one prompt together."""
    open_: _Question | None = None
    for row in rows:
        pair = (_answer(row, "chosen"), _answer(row, "rejected"))
        if pair[0] == pair[1]:
            raise TrainingError(
                f"example {row['example_id']}: chosen and rejected are the same text; remove the row or build again"
            )
        if open_ is None or not open_.takes(row, pair):
            if open_ is not None:
                yield open_
            open_ = _Question(str(row["example_id"]), row["prompt"])
        open_.pairs.append(pair)
        for side, text in zip(("chosen", "rejected"), pair, strict=True):
            open_.answers.setdefault(text, row[side])
    if open_ is not None:
        yield open_


class _Tally:
    """Counts while the rows pass; over-long ones are gathered, so that the error can name the length that fits."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._rows = self._pairs = self._prompt = self._answer = self._tokens = self._merged = self._over = 0
        self._longest = ("", 0)
        self._ends: Counter[int] = Counter()

    def add(self, tree: EncodedTree, merged: bool) -> None:
        answer = max(map(len, tree.answers))
        total = len(tree.prompt_ids) + answer
        self._rows += 1
        self._pairs += len(tree.pairs)
        self._prompt = max(self._prompt, len(tree.prompt_ids))
        self._answer = max(self._answer, answer)
        self._tokens += len(tree.prompt_ids) + sum(map(len, tree.answers))
        self._merged += merged
        self._over += total > self._max_length
        self._ends[1 << (total - 1).bit_length()] += 1
        if total > self._longest[1]:
            self._longest = (tree.example_id, total)

    def finish(self) -> Lengths:
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
        ends = tuple(sorted(self._ends.items()))
        return Lengths(self._rows, self._prompt, self._answer, length, self._tokens, self._merged, ends, self._pairs)


def _encoded(batch: list[_Question], tokenizer: Tokenizer) -> Iterator[tuple[EncodedTree, bool]]:
    texts = [_rendered(question, tokenizer) for question in batch]
    # The template writes the special tokens itself; adding them again is the doubled BOS of SeaLong's code.
    ids: list[list[int]] = tokenizer([text for each in texts for text in each], add_special_tokens=False)["input_ids"]
    remaining = iter(ids)
    for question, each in zip(batch, texts, strict=True):
        prompt, *wholes = islice(remaining, len(each))
        yield _split(question, tokenizer, prompt, wholes)


def _rendered(question: _Question, tokenizer: Tokenizer) -> list[str]:
    """The text of the prompt, and of the prompt with each answer."""
    prompt = _text(question.prompt, tokenizer, add_generation_prompt=True)
    wholes = [_text([*question.prompt, *answer], tokenizer) for answer in question.answers.values()]
    if not all(whole.startswith(prompt) for whole in wholes):
        raise TrainingError(
            f"example {question.name}: the base model's chat template renders the prompt differently when an answer "
            "follows, so training would not see what the model sees; give the tokenizer a template for training"
        )
    return [prompt, *wholes]


def _answer(row: Row, side: str) -> str:
    """The text of an answer; raises TrainingError when there is none."""
    messages = row[side]
    text = "".join(str(message["content"]) for message in messages)
    if not text.strip():
        raise TrainingError(f"example {row['example_id']}: {side} is empty; remove the row or build the dataset again")
    return text


def _text(messages: list[dict[str, str]], tokenizer: Tokenizer, add_generation_prompt: bool = False) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt))


def _split(
    question: _Question, tokenizer: Tokenizer, prompt: list[int], wholes: list[list[int]]
) -> tuple[EncodedTree, bool]:
    """Cut the encoded texts where they part; says too whether the prompt and an answer share a token there."""
    start = min(_common(prompt, whole) for whole in wholes)
    bos = tokenizer.bos_token_id
    if bos is not None and wholes[0][:2] == [bos, bos]:
        raise TrainingError(
            f"example {question.name}: the text begins with {tokenizer.bos_token!r} twice; the chat template writes it "
            "and the prompt's text repeats it: remove it from the prompt"
        )
    places = {text: place for place, text in enumerate(question.answers)}
    pairs = [(places[chosen], places[rejected]) for chosen, rejected in question.pairs]
    tree = EncodedTree(question.name, prompt[:start], [whole[start:] for whole in wholes], pairs)
    if not (start and all(tree.answers)):
        raise TrainingError(
            f"example {question.name}: no tokens are left of the prompt or an answer; check the chat template"
        )
    return tree, start < len(prompt)


def _common(first: list[int], second: list[int]) -> int:
    """How many ids two lists share from their start."""
    if second[: len(first)] == first:
        return len(first)
    return next(index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
