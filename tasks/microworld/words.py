"""The words of the microworld: invented names by kind, and real words for jobs and goods.

Every name is a start and an ending, so a few lines make hundreds. No word is contained in another, which
keeps substring matching of answers honest (a test holds this). Larger worlds put several words together; see
`world`. The words of names are cut into three splits, so that what is trained on names nobody of what is tested on.
Jobs and goods are closed classes of ordinary words, as in any language: they belong to every split.
"""

import random
from functools import cache
from typing import Literal, get_args

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

PERSON, PLACE, WORK, COMPANY, JOB, GOODS = "person", "place", "work", "company", "job", "goods"


def _names(starts: str, endings: str = "") -> tuple[str, ...]:
    return tuple(start + ending for start in starts.split() for ending in endings.split() or [""])


NAMES: dict[str, tuple[str, ...]] = {
    PERSON: _names(
        "Abr Bor Cas Dor Ev Fen Gil Har Iv Jas Kel Lor Mar Nes Osk Pel Quin Ros Sel Tav",
        "vira tan drick lena mund sabel thon wyn gard rissa bert lia phane dorn",
    ),
    PLACE: _names("Corn Dun Ash Bram Harr Lind Mill Oak Rav Thorn", "vale mouth stead wick bridge combe haven moor"),
    WORK: _names("Velm Torm Sarn Brisk Glav Hesp Nerv Olv Pard Zint", "oriad umbra ionde azeer ulent opane"),
    COMPANY: _names("Hex Brant Cryl Dov Fyr Jund Krat Mond Prax Vost", "alon itronic umark ossell"),
    JOB: _names(
        "potter weaver miller baker tailor cooper mason glazier tanner barber brewer butcher "
        "carpenter chandler clerk cobbler doctor farrier fisher gardener goldsmith judge locksmith "
        "midwife nurse painter pilot plumber sailor saddler scribe shepherd surveyor teacher "
        "thatcher tinker beekeeper watchmaker dyer carver"
    ),
    GOODS: _names(
        "salt amber copper wool honey cheese cider barley pears plums saffron silk timber slate "
        "marble lace glue candles rope cutlery herring walnuts vinegar mustard leather linen coal "
        "bells clocks lamps"
    ),
}


@cache
def names_of(kind: str, split: Split | None = None) -> tuple[str, ...]:
    """The words that name a kind: all of them, or a split's own (train has half of them, dev and test a quarter)."""
    words = NAMES[kind]
    if split is None or kind in (JOB, GOODS):
        return words
    mixed = random.Random(f"split:{kind}").sample(words, len(words))  # every start and ending comes up in each split
    half, last = len(words) // 2, 3 * len(words) // 4
    return tuple({"train": mixed[:half], "dev": mixed[half:last], "test": mixed[last:]}[split])
