"""Key-value pairs: a JSON object of UUIDs, and one key whose value is asked for; after "Lost in the Middle".

Questions about one object differ after it alone, so a server reads the object once. The last pair is not asked about:
its value is longer or shorter than a UUID, to make the length exact.
"""

import json
import random
import uuid
from collections.abc import Iterator, Sequence

from infra.canonical import seeded_random
from infra.errors import EvaluationError
from tasks.evaluation.generated.counting import CountedText
from tasks.evaluation.generated.fitting import filled
from tasks.evaluation.generated.question import Case, Workshop
from tasks.evaluation.suites import SuiteQuestion
from tasks.questions.question import question_text

PAIRS = "key_values"
_FEWEST = 3
_DIGITS = 800  # at most, of the last value
_END = '"\n}'

Pair = tuple[str, str]


def key_values(case: Case, depths: Sequence[float], workshop: Workshop) -> Iterator[SuiteQuestion]:
    """A question for each depth: about the pair nearest to it, of all but the last one."""
    rng = seeded_random(workshop.seed, PAIRS, case.length, case.sample)
    last, digits = str(_uuid(rng)), f"{rng.getrandbits(4 * _DIGITS):0{_DIGITS}x}"
    some_question = question_text("key_value", workshop.language, key=last)
    pairs, counted = _pairs(case, some_question, last, rng, workshop)
    place = len(counted.text) - len(_END)
    for depth in depths:
        position = round(depth * (len(pairs) - 1))
        key, value = pairs[position]
        question = question_text("key_value", workshop.language, key=key)
        ends = range(len(digits) + 1)
        fitted = filled(counted, place, place, digits, ends, case.target, workshop.counter, workshop.prompt(question))
        check_pairs(case, fitted.text, pairs)
        groups = {"position": position, "depth": depth}
        yield workshop.question(case, f"{depth:g}", fitted, question, [value], groups, in_haystack=False)


def _pairs(
    case: Case, question: str, last: str, rng: random.Random, workshop: Workshop
) -> tuple[list[Pair], CountedText]:
    """As many pairs as there is room for, and their text, with the last pair, whose value is empty."""
    counter, render = workshop.counter, workshop.prompt(question)
    line = counter.count(_line(_uuid(rng), _uuid(rng)) + ",\n").tokens
    room = case.target - counter.whole_prompt(_object((), last), render)
    pairs = [(_uuid(rng), _uuid(rng)) for _ in range(2 * room // line)]
    number = room // line
    for _ in range(4):  # UUIDs have more or fewer tokens, so the first number is a guess
        counted = counter.count(_object(pairs[:number], last))
        missing = case.target - counter.prompt(counted, render)
        if line <= missing <= 2 * line:
            break
        number = max(0, number + missing // line - 1)
    if number < _FEWEST:
        raise EvaluationError(f"{PAIRS}: {case.target} tokens hold {number} pairs; give longer `lengths`")
    return pairs[:number], counter.count(_object(pairs[:number], last))


def _object(pairs: Sequence[Pair], last: str) -> str:
    lines = [f"{_line(*pair)},\n" for pair in pairs]
    return "{\n" + "".join(lines) + _line(last, "")[: -len('"')] + _END


def _line(key: str, value: str) -> str:
    return f' "{key}": "{value}"'


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def check_pairs(case: Case, text: str, pairs: Sequence[Pair]) -> None:
    """Raise EvaluationError where the text is no JSON object with these pairs in their order, and one more."""
    try:
        read = json.loads(text, object_pairs_hook=list)
    except ValueError:
        read = []
    if read[:-1] != list(pairs) or len({key for key, _ in read}) != len(pairs) + 1:
        raise EvaluationError(f"{case.task}, {case.length} tokens: a pair got lost; report this, please")
