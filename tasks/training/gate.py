"""The gate before training: every row is encoded with the model's own chat template, and a bad row stops the run.

What passes is what is trained on: the encoded rows go to the trainers as they are, so nothing can be cut or
dropped later without being noticed. An answer's tokens begin where the encoded prompt and the encoded whole
part, which is TRL's rule. Leaves out: packing, and prompts with more than text.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from infra.errors import TrainingError
from infra.tokens import Tokenizer

Row = Mapping[str, Any]
_BATCH = 16  # rows whose texts are encoded together: a fast tokenizer uses all cores


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """Token ids of one row; `prompt_ids` + `chosen_ids` is what the model reads."""

    example_id: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens of the target model. `histogram` is (upper end, rows) by the longer of the two sides."""

    rows: int
    prompt_max: int
    answer_max: int
    total_max: int
    tokens: int  # of all prompts and both answers; a prompt counts once
    merged: int  # rows whose last prompt tokens merge with the answer's first
    histogram: tuple[tuple[int, int], ...]

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
    keep: Callable[[EncodedRow], None] | None = None,
) -> Lengths:
    """Encode and check all rows; each that passes goes to `keep`.

    `rows` have example_id, prompt, chosen and rejected, the last three lists of messages {"role", "content"}.
    Raises TrainingError, with the example_id and the remedy, for a row that is longer than `max_length` tokens,
    an empty answer, chosen equal to rejected, a doubled first token, or a chat template that renders the prompt
    differently when an answer follows.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise TrainingError("the base model's tokenizer has no chat template; train an instruct model, or give it one")
    tally = _Tally(max_length)
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH)):
        for row, merged in _encoded(batch, tokenizer):
            tally.add(row, merged)
            if keep is not None:
                keep(row)
    return tally.finish()


class _Tally:
    """Counts while the rows pass; over-long ones are gathered, so that the error can name the length that fits."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._rows = self._prompt = self._answer = self._tokens = self._merged = self._over = 0
        self._longest = ("", 0)
        self._ends: Counter[int] = Counter()

    def add(self, row: EncodedRow, merged: bool) -> None:
        answer = max(len(row.chosen_ids), len(row.rejected_ids))
        total = len(row.prompt_ids) + answer
        self._rows += 1
        self._prompt = max(self._prompt, len(row.prompt_ids))
        self._answer = max(self._answer, answer)
        self._tokens += len(row.prompt_ids) + len(row.chosen_ids) + len(row.rejected_ids)
        self._merged += merged
        self._over += total > self._max_length
        self._ends[1 << (total - 1).bit_length()] += 1
        if total > self._longest[1]:
            self._longest = (row.example_id, total)

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
        return Lengths(self._rows, self._prompt, self._answer, length, self._tokens, self._merged, ends)


def _encoded(batch: list[Row], tokenizer: Tokenizer) -> Iterator[tuple[EncodedRow, bool]]:
    texts: list[str] = []
    for row in batch:
        texts += _rendered(row, tokenizer)
    # The template writes the special tokens itself; adding them again is the doubled BOS of SeaLong's code.
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    for index, row in enumerate(batch):
        yield _split(str(row["example_id"]), tokenizer, *ids[3 * index : 3 * index + 3])


def _rendered(row: Row, tokenizer: Tokenizer) -> tuple[str, str, str]:
    """The texts of the prompt, of prompt and chosen, and of prompt and rejected."""
    name = row["example_id"]
    chosen, rejected = _answer(row, "chosen"), _answer(row, "rejected")
    if chosen == rejected:
        raise TrainingError(f"example {name}: chosen and rejected are the same text; remove the row or build again")
    prompt = _text(row["prompt"], tokenizer, add_generation_prompt=True)
    with_chosen = _text([*row["prompt"], *row["chosen"]], tokenizer)
    with_rejected = _text([*row["prompt"], *row["rejected"]], tokenizer)
    if not (with_chosen.startswith(prompt) and with_rejected.startswith(prompt)):
        raise TrainingError(
            f"example {name}: the base model's chat template renders the prompt differently when an answer follows, "
            "so training would not see what the model sees; give the tokenizer a template for training"
        )
    return prompt, with_chosen, with_rejected


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
    name: str, tokenizer: Tokenizer, prompt: list[int], chosen: list[int], rejected: list[int]
) -> tuple[EncodedRow, bool]:
    """Cut the encoded texts where they part; says too whether prompt and answer share a token there."""
    start = min(_common(prompt, chosen), _common(prompt, rejected))
    bos = tokenizer.bos_token_id
    if bos is not None and chosen[:2] == [bos, bos]:
        raise TrainingError(
            f"example {name}: the text begins with {tokenizer.bos_token!r} twice; the chat template writes it and "
            "the prompt's text repeats it: remove it from the prompt"
        )
    row = EncodedRow(name, prompt[:start], chosen[start:], rejected[start:])
    if not (start and row.chosen_ids and row.rejected_ids):
        raise TrainingError(f"example {name}: no tokens are left of the prompt or an answer; check the chat template")
    return row, start < len(prompt)


def _common(first: list[int], second: list[int]) -> int:
    """How many ids two lists share from their start."""
    if second[: len(first)] == first:
        return len(first)
    return next(index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
