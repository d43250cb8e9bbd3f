"""The language of the microworld: its names by kind, and the sentence templates of every relation.

Names are invented: every start with every ending, so a few lines make hundreds. No word is contained in another word,
so that substring matching of answers is exact (a test checks this). Larger worlds use names of several words, see
`world`. The words of names are divided into three splits, so that no name of the training data is in the test data.
Jobs and goods are ordinary English words and belong to every split.

A fact (subject, relation, value) is stated in the document of its subject; the document of its value may repeat it (an
echo). In templates, `{s}` stands for the subject and `{v}` for the value. Canonical sentences ("The home of Alvira is
Dunvale.") belong to answers, not to documents. There are no pronouns and no grammar beyond these templates.
"""

import random
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

PERSON, PLACE, WORK, COMPANY, JOB, GOODS = "person", "place", "work", "company", "job", "goods"


def _combine(starts: str, endings: str) -> tuple[str, ...]:
    """Every start with every ending."""
    names: list[str] = []
    for start in starts.split():
        names += [start + ending for ending in endings.split()]
    return tuple(names)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES: dict[str, tuple[str, ...]] = {
    PERSON: _combine(
        "Abr Bor Cas Dor Ev Fen Gil Har Iv Jas Kel Lor Mar Nes Osk Pel Quin Ros Sel Tav",
        "vira tan drick lena mund sabel thon wyn gard rissa bert lia phane dorn",
    ),
    PLACE: _combine("Corn Dun Ash Bram Harr Lind Mill Oak Rav Thorn", "vale mouth stead wick bridge combe haven moor"),
    WORK: _combine("Velm Torm Sarn Brisk Glav Hesp Nerv Olv Pard Zint", "oriad umbra ionde azeer ulent opane"),
    COMPANY: _combine("Hex Brant Cryl Dov Fyr Jund Krat Mond Prax Vost", "alon itronic umark ossell"),
    JOB: _words(
        "potter weaver miller baker tailor cooper mason glazier tanner barber brewer butcher "
        "carpenter chandler clerk cobbler doctor farrier fisher gardener goldsmith judge locksmith "
        "midwife nurse painter pilot plumber sailor saddler scribe shepherd surveyor teacher "
        "thatcher tinker beekeeper watchmaker dyer carver"
    ),
    GOODS: _words(
        "salt amber copper wool honey cheese cider barley pears plums saffron silk timber slate "
        "marble lace glue candles rope cutlery herring walnuts vinegar mustard leather linen coal "
        "bells clocks lamps"
    ),
}


@cache
def names_of(kind: str, split: Split | None = None) -> tuple[str, ...]:
    """The words that names of a kind are made of: all, or those of a split (train has half, dev and test a quarter)."""
    words = NAMES[kind]
    if split is None or kind in (JOB, GOODS):
        return words
    shuffled = random.Random(f"split:{kind}").sample(words, len(words))  # so that every start and ending is in each
    half, three_quarters = len(words) // 2, 3 * len(words) // 4
    words_of_split = {"train": shuffled[:half], "dev": shuffled[half:three_quarters], "test": shuffled[three_quarters:]}
    return tuple(words_of_split[split])


@dataclass(frozen=True)
class Relation:
    """A relation between two kinds of entities, with the templates of the sentences and questions about it.

    `questions` ask for the value of a subject, `list_questions` for all subjects with a value.
    """

    noun: str
    subject_kind: str
    value_kind: str
    statements: tuple[str, ...]
    echoes: tuple[str, ...]
    questions: tuple[str, ...]
    list_questions: tuple[str, ...] = ()

    def sentence(self, subject: str, value: str) -> str:
        """The canonical sentence of a fact, as answers state it."""
        return f"The {self.noun} of {subject} is {value}."


# fmt: off
RELATIONS: dict[str, Relation] = {
    "home": Relation(
        "home",
        PERSON,
        PLACE,
        (
            "{s} lives in {v}.",
            "The home of {s} is {v}.",
            "{s} has a house in {v}.",
            "{s} settled in {v} long ago.",
            "{v} is where {s} lives.",
            "For years {s} has lived in {v}.",
        ),
        ("One who lives here in {v} is {s}.", "{s} lives in {v}.", "{v} is home to {s}."),
        ("Where does {s} live?", "What is the home of {s}?", "In which place does {s} live?"),
        ("Who lives in {v}?", "Name all who live in {v}."),
    ),
    "job": Relation(
        "job",
        PERSON,
        JOB,
        (
            "{s} works as a {v}.",
            "The job of {s} is that of a {v}.",
            "By trade {s} is a {v}.",
            "{s} earns a living as a {v}.",
            "{s} is known as a good {v}.",
        ),
        (),
        ("What is the job of {s}?", "What does {s} work as?", "What is the trade of {s}?"),
    ),
    "mentor": Relation(
        "mentor",
        PERSON,
        PERSON,
        (
            "The mentor of {s} is {v}.",
            "{s} learned everything from {v}.",
            "{s} was taught by {v}.",
            "{v} is the mentor of {s}.",
            "{s} was a pupil of {v}.",
        ),
        ("One pupil of {v} was {s}.", "{v} is the mentor of {s}.", "{v} taught {s}."),
        ("Who is the mentor of {s}?", "By whom was {s} taught?", "Who taught {s}?"),
        ("Who are the pupils of {v}?", "Name all pupils of {v}."),
    ),
    "author": Relation(
        "author",
        WORK,
        PERSON,
        (
            "{s} was written by {v}.",
            "The author of {s} is {v}.",
            "{v} wrote {s}.",
            "{s} is from the pen of {v}.",
            "{s} is a book by {v}.",
        ),
        ("{v} wrote {s}.", "{v} is the author of {s}.", "Among the works of {v} is {s}."),
        ("Who wrote {s}?", "Who is the author of {s}?", "By whom was {s} written?"),
        ("Which works did {v} write?", "Name all works by {v}."),
    ),
    "setting": Relation(
        "setting",
        WORK,
        PLACE,
        (
            "{s} is set in {v}.",
            "The setting of {s} is {v}.",
            "The story of {s} takes place in {v}.",
            "{s} tells of life in {v}.",
        ),
        ("{v} is the setting of {s}.", "{s} is set in {v}."),
        ("Where is {s} set?", "What is the setting of {s}?", "In which place is {s} set?"),
        ("Which works are set in {v}?", "Name all works set in {v}."),
    ),
    "founder": Relation(
        "founder",
        COMPANY,
        PERSON,
        (
            "{s} was founded by {v}.",
            "The founder of {s} is {v}.",
            "{v} founded {s}.",
            "{s} was the idea of {v}.",
            "{s} was set up by {v}.",
        ),
        ("{v} founded {s}.", "{v} is the founder of {s}."),
        ("Who founded {s}?", "Who is the founder of {s}?", "By whom was {s} founded?"),
        ("Which companies did {v} found?", "Name all companies founded by {v}."),
    ),
    "seat": Relation(
        "seat",
        COMPANY,
        PLACE,
        (
            "{s} has its seat in {v}.",
            "The seat of {s} is {v}.",
            "{s} is run from {v}.",
            "The offices of {s} are in {v}.",
            "{v} is where {s} has its offices.",
        ),
        ("{s} has its seat in {v}.", "{v} is the seat of {s}."),
        ("Where is the seat of {s}?", "Where does {s} have its seat?", "In which place is {s} run?"),
        ("Which companies have their seat in {v}?", "Name all companies with a seat in {v}."),
    ),
    "mayor": Relation(
        "mayor",
        PLACE,
        PERSON,
        (
            "The mayor of {s} is {v}.",
            "{s} is governed by {v}.",
            "{v} is the mayor of {s}.",
            "The people of {s} chose {v} as mayor.",
        ),
        ("{v} is the mayor of {s}.", "{v} governs {s}."),
        ("Who is the mayor of {s}?", "Who governs {s}?", "By whom is {s} governed?"),
    ),
    "product": Relation(
        "product",
        PLACE,
        GOODS,
        (
            "{s} is famous for its {v}.",
            "The product of {s} is {v}.",
            "{s} sells {v} far and wide.",
            "Most of the trade in {s} is in {v}.",
            "People come to {s} for its {v}.",
        ),
        (),
        ("What is the product of {s}?", "What is {s} famous for?", "What does {s} sell?"),
    ),
}

ABOUT = ("What does the text say about {s}?", "State everything that the text says about {s}.")

LEADS = (
    "It is recorded that",
    "Everyone agrees that",
    "The old rolls say that",
    "By all accounts,",
    "As far as anyone knows,",
    "It is common knowledge that",
)

FILLER = (
    "Little else is known about {s}.",
    "Travellers still speak of {s} in winter.",
    "Opinions about {s} differ.",
    "There is a short song about {s}.",
    "The weather was mild that year.",
    "Nobody remembers when the bridge was built.",
    "The records of those days are thin.",
    "Some of this was written down much later.",
    "A longer account of {s} was lost in a fire.",
    "The roads were poor and the winters long.",
    "Many letters mention {s}.",
    "The market opens twice a week.",
    "Children learn about {s} at school.",
    "A small museum keeps a few papers.",
    "This much is beyond doubt.",
    "The rest is rumour.",
    "The harvest was good that summer.",
    "Visitors ask about {s} now and then.",
    "No picture of {s} has come down to us.",
    "The river rose twice that spring.",
)
