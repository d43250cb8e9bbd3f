"""A generated question: what it is made for, how something is hidden in its haystack, and the checks it must pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infra.canonical import text_id
from infra.errors import EvaluationError
from infra.models.tokens import Conversation
from tasks.evaluation.generated.counting import CountedText, Render, TextCounter
from tasks.evaluation.generated.fitting import TOLERANCE, filled, word_ends
from tasks.evaluation.generated.haystack import GAP, Haystack, HaystackSource, make_haystack
from tasks.evaluation.suites import SuiteQuestion
from tasks.metrics import LIST
from tasks.records.example import Context, Example

Groups = Mapping[str, float | str]
_JOINTS = {"en": " ", "zh": ""}  # between sentences


@dataclass(frozen=True, slots=True)
class Case:
    """What questions are made for: a task, a length, and which of the haystacks."""

    task: str
    length: int  # tokens that were asked for
    target: int  # tokens of the whole prompt: fewer than `length` where the model's window must hold the answer too
    sample: int  # which haystack, from 0


@dataclass(frozen=True, slots=True)
class Hidden:
    """What is put into a haystack, at a depth in [0, 1]."""

    depth: float
    text: str


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the questions of a suite are made with. `render(question, context)` gives the messages of a prompt."""

    language: str
    seed: int
    source: HaystackSource
    counter: TextCounter
    render: Callable[[str, str], Conversation]

    def prompt(self, question: str) -> Render:
        """The messages with this question, around a context."""
        return lambda context: self.render(question, context)

    def haystack(self, case: Case, hidden: Sequence[Hidden], questions: Sequence[str]) -> Haystack:
        """The haystack of a case, with room for what is hidden and for the longest of the questions."""
        tokens = case.target - sum(self.counter.pieces([part.text for part in hidden]))
        tokens -= max(self.counter.whole_prompt("", self.prompt(question)) for question in questions)
        return make_haystack(self.source, (self.seed, self.language, case.sample), tokens, self.counter)

    def hide(self, haystack: Haystack, hidden: Sequence[Hidden], case: Case, question: str) -> CountedText:
        """The haystack with what is hidden, of the case's length together with the question.

        Parts at the same place stand in their order. A part that begins with a gap stands between documents.
        """
        start, end = haystack.starts[-1], len(haystack.counted.text)  # its last sentence makes the length exact
        filling = haystack.counted.text[start:] + haystack.next_sentences
        joint = _JOINTS[self.language]
        counted = haystack.counted
        places: list[tuple[int, int, str]] = []
        for number, hidden_part in enumerate(hidden):
            place = haystack.place(hidden_part.depth, hidden_part.text.startswith(GAP))
            places.append((place, number, hidden_part.text))
        for place, _, text in sorted(places, reverse=True):  # so that the places before stay what they are
            part = text if text.startswith(GAP) else joint + text
            if place == 0:
                part = part.lstrip() + (GAP if text.startswith(GAP) else joint)
            counted = self.counter.replaced(counted, place, place, part)
            if place <= start:
                start, end = start + len(part), end + len(part)
        ends = word_ends(filling)
        return filled(counted, start, end, filling, ends, case.target, self.counter, self.prompt(question))

    def question(
        self,
        case: Case,
        name: str,
        counted: CountedText,
        question: str,
        references: Sequence[str],
        groups: Groups,
        *,
        all_needed: bool = True,
        in_haystack: bool = True,
    ) -> SuiteQuestion:
        """A question about a context, checked for its length.

        `name` tells it from others of the case; `all_needed`: an answer must hold all references, not one of them;
        `in_haystack`: the context begins like that of every question with the same haystack.
        """
        check_length(case, self.counter.prompt(counted, self.prompt(question)))
        parts = (case.task, self.language, case.length, case.sample, name)
        kind = LIST if all_needed and len(references) > 1 else case.task
        context = Context(text_id(counted.text), counted.text, counted.tokens, (0,), (len(counted.text),), ("",))
        example = Example(
            "-".join(map(str, filter(None, parts))),
            question,
            context.context_id,
            tuple(references),
            kind,
            self.language,
            "{}",
        )
        of_case = () if in_haystack else (case.task, case.length)
        shared = "-".join(map(str, ("generated", self.language, self.seed, case.sample, *of_case)))
        return SuiteQuestion(example, context, case.task, {"length": case.length, **groups}, (), shared)


def check_length(case: Case, tokens: int) -> None:
    """Raise EvaluationError where a prompt is longer than its target, or shorter by more than the tolerance."""
    if not case.target - TOLERANCE <= tokens <= case.target:
        raise EvaluationError(f"{case.task}: a prompt made for {case.target} tokens has {tokens}; report this, please")


def check_hidden(case: Case, text: str, hidden: Sequence[Hidden]) -> None:
    """Raise EvaluationError where a hidden part does not stand once in the text, or not at about its depth."""
    for part in hidden:
        stripped = part.text.strip()
        if (times := text.count(stripped)) != 1:
            raise EvaluationError(
                f"{case.task}, {case.length} tokens: {stripped[:80]!r} stands {times} times in the text and must once; "
                "take another `haystack`"
            )
