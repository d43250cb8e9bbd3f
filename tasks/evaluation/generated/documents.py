"""Questions about one or two articles of the library, which stand among other documents; after RULER's QA."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from infra.canonical import seeded_random
from tasks.evaluation.generated.haystack import GAP, HaystackSource
from tasks.evaluation.generated.question import Case, Hidden, Workshop, check_hidden
from tasks.evaluation.suites import SuiteQuestion
from tasks.library import LIST, UNANSWERABLE, library_articles, library_questions

DISTRACTORS = "qa"


def distractors(case: Case, depths: Sequence[float], workshop: Workshop) -> Iterator[SuiteQuestion]:
    """A question at each depth; its first article stands there, a second one anywhere."""
    language = workshop.language
    articles = library_articles(language)
    questions = []
    for question in library_questions(language):
        if question.split == "test" and question.kind != UNANSWERABLE:
            questions.append(question)
    seeded_random(workshop.seed, DISTRACTORS, language).shuffle(questions)
    for number, depth in enumerate(depths):
        question = questions[(case.sample * len(depths) + number) % len(questions)]
        names = list(dict.fromkeys(span.article for span in question.evidence))
        rng = seeded_random(workshop.seed, DISTRACTORS, language, case.length, case.sample, number)
        hidden: list[Hidden] = []
        for place, name in enumerate(names):
            text = f"{GAP}{articles[name].title}\n{articles[name].text}"
            hidden.append(Hidden(depth if place == 0 else rng.random(), text))
        own = replace(workshop, source=_without(workshop.source, [part.text for part in hidden]))
        haystack = own.haystack(case, hidden, [question.question])
        counted = own.hide(haystack, hidden, case, question.question)
        check_hidden(case, counted.text, hidden)
        yield own.question(
            case,
            f"{depth:g}",
            counted,
            question.question,
            question.answers,
            {"depth": depth},
            all_needed=question.kind == LIST,
        )


def _without(source: HaystackSource, texts: Sequence[str]) -> HaystackSource:
    hidden = {text.strip() for text in texts}
    documents = tuple(document for document in source.documents if "".join(document) not in hidden)
    return replace(source, documents=documents)
