"""How much of a text stands in another, by n-grams of 13 units: a unit is a word, or one Chinese or Japanese character.

Of every evaluation text a sample of at most 1,024 n-grams is remembered (those with the smallest hashes, so that the
sample is even and always the same); the other side is read once, text after text. So memory grows with the number of
evaluation texts alone, about 8 kB each, whatever their length, and not with what was trained on.

Hashes are polynomial over words, then over n-grams, in 64 bits: all of a text's in a few passes of numpy.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

UNITS = 13  # of an n-gram, as in the report on GPT-3 (Brown et al. 2020, appendix C)
SAMPLE = 1024  # n-grams that are remembered of a text
_BASE, _UNIT_BASE, _MIX = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93  # odd, so that they have inverses
_WORD, _IDEOGRAM = 1, 2
_IDEOGRAMS = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_FILTER_BITS = 24

Hashes = NDArray[np.uint64]


class TextIndex:
    """Remembers texts, and says of another text how much of each stands in it."""

    def __init__(self, texts: Sequence[str]) -> None:
        grams: list[Hashes] = []
        owners: list[NDArray[np.int64]] = []
        self._sizes = np.zeros(len(texts), np.int64)
        for place, text in enumerate(texts):
            sample = gram_hashes(text)[:SAMPLE]
            self._sizes[place] = sample.size
            grams.append(sample)
            owners.append(np.full(sample.size, place))
        together = np.concatenate(grams) if grams else np.empty(0, np.uint64)
        order = np.argsort(together, kind="stable")
        self._grams = together[order]
        self._owners = np.concatenate(owners)[order] if owners else np.empty(0, np.int64)
        # Most n-grams of another text are in none of these: a table of bits says so at once.
        self._filter = np.zeros(1 << _FILTER_BITS, np.bool_)
        self._filter[_short(self._grams)] = True

    def shares(self, text: str) -> NDArray[np.float64]:
        """For each remembered text the share of its n-grams that occur in `text`; 0 for one without n-grams."""
        hashes = _all_grams(text)
        candidates = np.unique(hashes[self._filter[_short(hashes)]])
        starts = np.searchsorted(self._grams, candidates, "left")
        ends = np.searchsorted(self._grams, candidates, "right")
        there = ends > starts
        counts = np.zeros(self._sizes.size, np.int64)
        for start, end in zip(starts[there].tolist(), ends[there].tolist(), strict=True):
            counts[self._owners[start:end]] += 1
        return counts / np.maximum(self._sizes, 1)


def gram_hashes(text: str) -> Hashes:
    """The distinct hashes of a text's n-grams, sorted; the whole text is one where it has fewer units."""
    return np.unique(_all_grams(text))


def units_of(text: str) -> list[str]:
    """The units of a text, in lower case and without punctuation."""
    normal, _, starts, ends = _unit_places(text)
    return [normal[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _all_grams(text: str) -> Hashes:
    _, codes, starts, ends = _unit_places(text)
    if not starts.size:
        return np.empty(0, np.uint64)
    powers, inverses = _powers(1 << max(16, int(codes.size).bit_length()))
    sums = np.zeros(codes.size + 1, np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers[: codes.size], out=sums[1:])
    units = _mixed((sums[ends] - sums[starts]) * inverses[starts])
    size = min(UNITS, units.size)
    grams = np.zeros(units.size - size + 1, np.uint64)
    for place in range(size):
        grams = grams * np.uint64(_UNIT_BASE) + units[place : place + grams.size]
    return _mixed(grams)


def _unit_places(text: str) -> tuple[str, NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """The text normalised, its code points, and where each unit starts and ends in them."""
    normal = unicodedata.normalize("NFKC", text).lower()
    codes = np.frombuffer(normal.encode("utf-32-le", "surrogatepass"), np.uint32)
    classes = _classes()[codes]
    before = np.concatenate([[np.uint8(0)], classes[:-1]])
    after = np.concatenate([classes[1:], [np.uint8(0)]])
    inside = classes > 0
    alone = classes == _IDEOGRAM
    starts = inside & (alone | (before != _WORD))
    ends = inside & (alone | (after != _WORD))
    return normal, codes, np.flatnonzero(starts), np.flatnonzero(ends) + 1


@cache
def _classes() -> NDArray[np.uint8]:
    """Of every code point: a letter or digit of a word, an ideogram, or neither."""
    classes = np.fromiter((chr(code).isalnum() for code in range(0x110000)), np.uint8, 0x110000)
    for first, last in _IDEOGRAMS:
        classes[first : last + 1] *= _IDEOGRAM
    return classes


@cache
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The powers of the base and of its inverse modulo 2^64."""
    inverse = pow(_BASE, -1, 1 << 64)
    pair = []
    for base in (_BASE, inverse):
        factors = np.full(count, base, np.uint64)
        factors[0] = 1
        pair.append(np.cumprod(factors))
    return pair[0], pair[1]


def _mixed(hashes: Hashes) -> Hashes:
    """Hashes whose high and low bits both depend on all of them."""
    hashes = (hashes ^ (hashes >> np.uint64(32))) * np.uint64(_MIX)
    return hashes ^ (hashes >> np.uint64(29))


def _short(hashes: Hashes) -> NDArray[np.int64]:
    return (hashes >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)
