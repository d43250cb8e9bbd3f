"""Haystacks: long texts of sentences, in which something is hidden.

A haystack is its documents in a random order, again and again in other orders where it must be longer than they are.
So a shorter haystack with the same number is the beginning of a longer one, and a server's prefix cache serves both.
"""

import functools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from infra.canonical import seeded_random
from infra.errors import EvaluationError, InputError
from infra.models.special_tokens import break_special_tokens, own_special_tokens
from infra.models.tokens import Tokenizer
from infra.recipe import Documents
from tasks.documents.document import Parsed
from tasks.documents.reading import read_sources
from tasks.evaluation.generated.counting import CountedText, TextCounter
from tasks.library import library_articles
from tasks.prompts import load_prompt
from tasks.sentences import split_sentences

LIBRARY, NOISE = "library", "noise"
GAP = "\n\n"  # between documents
_ROUGH = 200  # tokens that a haystack may be shorter than it was asked for
_LEAST = 100  # tokens of a haystack


@dataclass(frozen=True, slots=True)
class Haystack:
    """A text in sentences; the blanks between two sentences belong to the second one."""

    counted: CountedText
    starts: tuple[int, ...]  # of each sentence, in characters
    document_starts: frozenset[int]  # those of sentences that begin a document
    sizes: tuple[int, ...]  # tokens of each sentence, roughly
    next_sentences: str  # how the text would go on

    def place(self, depth: float, between_documents: bool = False) -> int:
        """The place between two sentences, or documents, that is nearest to a depth in [0, 1] of the tokens."""
        total, end = sum(self.sizes), len(self.counted.text)
        before, nearest, place = 0, math.inf, 0
        for start, size in zip((*self.starts, end), (*self.sizes, 0), strict=True):
            distance = abs(before - depth * total)
            if distance < nearest and (not between_documents or start == end or start in self.document_starts):
                nearest, place = distance, start
            before += size
        return place


@dataclass(frozen=True, slots=True)
class HaystackSource:
    """Where haystacks of a language come from: documents, each in its sentences."""

    documents: tuple[tuple[str, ...], ...]
    gap: str = GAP

    def sentences(self, seed: Sequence[str | int], characters: int) -> tuple[list[str], list[int]]:
        """The sentences of a haystack of at least so many characters, and the numbers of those that begin a document.

        The first sentences are the same for any number of characters.
        """
        random = seeded_random("haystack", *seed)
        sentences: list[str] = []
        beginnings: list[int] = []
        size = 0
        while size < characters:
            documents = list(self.documents)
            random.shuffle(documents)
            for document in documents:
                gap = self.gap if sentences else ""
                beginnings.append(len(sentences))
                sentences += [gap + document[0], *document[1:]]
                size += len(gap) + sum(map(len, document))
                if size >= characters:
                    break
        return sentences, beginnings


def haystack_source(name: str, language: str, tokenizer: Tokenizer) -> HaystackSource:
    """The library, noise, or the documents at a path or URL. Raises InputError when these hold no text."""
    own = own_special_tokens(tokenizer)
    if name == NOISE:
        text = load_prompt("haystack-noise", language).text
        return HaystackSource((split_sentences(text),), " " if language == "en" else "")
    texts = _library_texts(language) if name == LIBRARY else _own_texts(name)
    documents = []
    for text in texts:
        documents.append(split_sentences(break_special_tokens(text, own)))
    return HaystackSource(tuple(documents))


def make_haystack(source: HaystackSource, seed: Sequence[str | int], tokens: int, counter: TextCounter) -> Haystack:
    """A haystack of at most `tokens` tokens and few fewer, counted exactly. Raises EvaluationError for too few."""
    if tokens < _LEAST:
        raise EvaluationError(
            f"beside what is hidden and asked there is room for {tokens} tokens of a haystack, and it takes {_LEAST}; "
            "give longer `lengths`"
        )
    characters = 8 * tokens + 2000
    sentences, beginnings = source.sentences(seed, characters)
    sizes = counter.pieces(sentences)
    while sum(sizes) < 1.2 * tokens + 2 * _ROUGH:  # a tokenizer whose tokens are long
        characters *= 2
        sentences, beginnings = source.sentences(seed, characters)
        sizes = counter.pieces(sentences)
    sums = _sums(sizes)
    number = max(1, bisect_right(sums, tokens) - 1)
    counted = counter.count("".join(sentences[:number]))
    for _ in range(3):  # the tokens of the sentences may not add up to those of the text
        if tokens - counted.tokens <= _ROUGH or number == len(sentences):
            break
        number = min(len(sentences), round(number * tokens / max(1, counted.tokens)))
        counted = counter.count("".join(sentences[:number]))
    while counted.tokens > tokens and number > 1:
        number -= 1
        end = len(counted.text)
        counted = counter.replaced(counted, end - len(sentences[number]), end, "")
    starts = []
    place = 0
    for sentence in sentences[:number]:
        starts.append(place)
        place += len(sentence)
    per_token = len(counted.text) / max(1, counted.tokens)
    following = "".join(sentences[number:])[: round(2 * _ROUGH * per_token) + 200]
    documents = frozenset(starts[place] for place in beginnings if place < number)
    return Haystack(counted, tuple(starts), documents, tuple(sizes[:number]), following)


def _sums(sizes: Sequence[int]) -> list[int]:
    sums = [0]
    for size in sizes:
        sums.append(sums[-1] + size)
    return sums


def _library_texts(language: str) -> list[str]:
    return [article.text for article in library_articles(language).values()]


@functools.cache
def _own_texts(source: str) -> tuple[str, ...]:
    """The texts of a user's documents, of any language and length."""
    texts = []
    for _, parsed in read_sources(Documents(source=source), processes=1):
        if isinstance(parsed, Parsed) and parsed.text.strip():
            texts.append(parsed.text.strip())
    if not texts:
        raise InputError(f"{source}: holds no text for a haystack; `longmill documents` says why")
    return tuple(texts)
