"""The words of the microworld: invented names by kind, and real words for jobs and goods.

Every name is a start and an ending, so a few lines make hundreds. No word is contained in another, which
keeps substring matching of answers honest (a test holds this). Larger worlds pair these words; see `world`.
"""

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
