"""What vLLM's routes for pooling models send: a score for a conversation, or for each of its tokens.

    /classify    {"data": [{"probs": [s]}]}                    a sequence classifier
    /pooling     {"data": [{"data": [s]}]}                     the same, or a reward model
                 {"data": [{"data": [[s], [s], ...]}]}         a reward model that scores every token
    /score       {"data": [{"score": s}]}                      a cross-encoder, or likeness of two embeddings

Scores are logits where the request says `use_activation: false` (vLLM 0.11 and later). A request never asks the server
to cut a text: one that is too long for the model is refused.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

Route = Literal["classify", "pooling", "score"]
ROUTES: tuple[Route, ...] = ("classify", "pooling", "score")


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one conversation: a row of all labels, or a row for each token. Tokens as the server counts them."""

    rows: tuple[tuple[float, ...], ...]
    prompt_tokens: int

    @property
    def labels(self) -> int:
        """Numbers in a row: 1 for a reward, the vector's length for an embedding."""
        return len(self.rows[0])


def read_scores(raw: str | bytes) -> Scores:
    """Read the JSON of any of the routes. Raises ValueError when it holds no scores of one conversation."""
    body = json.loads(raw)
    try:
        (item,) = body["data"]
        rows = _rows(item)
        usage = body.get("usage") or {}
        return Scores(rows, int(usage.get("prompt_tokens") or 0))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no scores of one text ({type(error).__name__}: {error})") from error


def _rows(item: dict[str, Any]) -> tuple[tuple[float, ...], ...]:
    if "score" in item:
        values = [[item["score"]]]
    elif "probs" in item:
        values = [item["probs"]]
    else:
        data = item["data"]
        values = data if data and isinstance(data[0], list) else [data]
    rows = tuple(tuple(float(value) for value in row) for row in values)
    if not rows[0] or len(set(map(len, rows))) > 1:
        raise ValueError("rows of scores that are empty, or of different lengths")
    return rows
