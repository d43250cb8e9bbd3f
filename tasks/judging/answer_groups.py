"""Groups of answers that say the same in the end: by their final answers, what follows the last line "Answer:"."""

from collections import Counter
from collections.abc import Sequence

from tasks.metrics import bags_f1, final_answer
from tasks.records.example import Answer
from tasks.sub_em import normalised_tokens


def group_answers(answers: Sequence[Answer], likeness: float = 1.0) -> list[list[int]]:
    """The places of the answers in each group, in the order in which their first ones come; those without text are in
    none.

    Two are of one group when the token F1 of their final answers is at least `likeness`, or where others between them
    make a chain. Neither the order of words nor punctuation, case and articles matter.
    """
    places: dict[tuple[str, ...], list[int]] = {}  # by the sorted tokens of a final answer
    for place, answer in enumerate(answers):
        if answer.text.strip():
            places.setdefault(tuple(sorted(normalised_tokens(final_answer(answer.text)))), []).append(place)
    if likeness >= 1:
        return list(places.values())
    groups: list[tuple[list[Counter[str]], list[int]]] = []
    for tokens, of_tokens in places.items():
        bag = Counter(tokens)
        bags, joined = [bag], list(of_tokens)
        others = []
        for of_group in groups:
            if any(bags_f1(bag, other) >= likeness for other in of_group[0]):
                bags, joined = [*of_group[0], *bags], [*of_group[1], *joined]
            else:
                others.append(of_group)
        groups = [*others, (bags, joined)]
    return sorted((sorted(joined) for _, joined in groups), key=lambda joined: joined[0])
