"""Which token stands where: trees of one prompt and its answers, side by side in one row without padding.

A tree is `[prompt + answer 1 | p + answer 2 | p + answer 3 ...]`, where p is the prompt's last token, read again:
it predicts each answer's first token. Positions continue from the prompt's for every answer. It replaces a padded
batch of one row per answer, tree after tree, prompts at the left edge.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IGNORED = -100  # a label that takes no part in the loss


@dataclass(frozen=True, slots=True)
class Tree:
    """Lengths in tokens: of a prompt (at least 1) and of each of its answers."""

    prompt: int
    answers: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens that are read: the prompt once, and its last token again for each further answer."""
        return self.prompt + sum(self.answers) + len(self.answers) - 1


@dataclass(frozen=True, slots=True)
class TokenSegment:
    """Queries [start, end) of the row; they see keys [shared_start, shared_end), then each other, causally."""

    start: int
    end: int
    shared_start: int
    shared_end: int


@dataclass(frozen=True)
class Layout:
    """Trees in one row."""

    trees: tuple[Tree, ...]

    @cached_property
    def tokens(self) -> int:
        """The row's length."""
        return sum(tree.tokens for tree in self.trees)

    @cached_property
    def segments(self) -> tuple[TokenSegment, ...]:
        """What attends to what, in the row's order: of each tree the prompt with its first answer, then the others."""
        segments: list[TokenSegment] = []
        end = 0
        for tree in self.trees:
            start = end
            end = start + tree.prompt + tree.answers[0]
            segments.append(TokenSegment(start, end, start, start))
            for answer in tree.answers[1:]:
                segments.append(TokenSegment(end, end + 1 + answer, start, start + tree.prompt - 1))
                end += 1 + answer
        return tuple(segments)

    def sources(self, width: int) -> "torch.Tensor":
        """For each place of the row the flat index into the padded batch [answers, `width`]: [tokens]."""
        import torch

        parts: list[torch.Tensor] = []
        row_start = 0
        for tree in self.trees:
            for number, answer in enumerate(tree.answers):
                first = tree.prompt - 1 if number else 0
                parts.append(torch.arange(row_start + first, row_start + tree.prompt + answer))
                row_start += width
        return torch.cat(parts)

    def places(self, width: int) -> "torch.Tensor":
        """For each token of the padded batch its place in the row, 0 for padding: [answers, `width`]."""
        import torch

        places = torch.zeros(len(self.segments), width, dtype=torch.long)
        rows = iter(zip(places, self.segments, strict=True))
        for tree in self.trees:
            for number, answer in enumerate(tree.answers):
                row, segment = next(rows)
                row[: tree.prompt] = torch.arange(segment.shared_start, segment.shared_start + tree.prompt)
                first = tree.prompt - 1 if number else 0
                row[first : tree.prompt + answer] = torch.arange(segment.start, segment.end)
        return places
