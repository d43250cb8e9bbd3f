"""What must be true of the library; `python -m tasks.library.check` prints every fault.

Articles: ids are unique, lengths are in bounds. Questions: evidence is whole sentences within a paragraph; an answer
stands in the evidence (a number that has to be computed stands in no article), and not in the question (a comparison
names both); articles and question are of one split; and no other article answers it: none has a sentence with an answer
beside most of the question's words, and none names an evidence article's title in the sentence of an answer.
"""

import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping

from tasks.library import (
    COMPARISON,
    KINDS,
    LANGUAGES,
    LIST,
    NUMBER,
    UNANSWERABLE,
    Article,
    Evidence,
    LibraryQuestion,
    library_articles,
    library_questions,
)
from tasks.sub_em import normalised_tokens, sub_em

LENGTHS = {"en": (150, 400), "zh": (225, 600)}  # of an article: words, or characters, which are shorter
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])[\"')\]]*\s+|(?<=[。！？])[”』」）]*)(?=\S)|\n\n")
_MOST = 0.7  # share of the question's words in a sentence that would answer it
_SMALL_WORDS = (
    "a an and are as at by did do does for from had has have how in into is it its many much of on or s than that the "
    "their to was were what when where which who whose why with "
    "的 了 是 在 有 和 哪 什 么 谁 多 少 几 何 一 个 为 与 于 年 座 条"
)


def faults(language: str, articles: Mapping[str, Article], questions: Iterable[LibraryQuestion]) -> Iterator[str]:
    """Every fault, in a sentence that names the article or the question."""
    shortest, longest = LENGTHS[language]
    for article in articles.values():
        words = len(article.text) if language == "zh" else len(article.text.split())
        if not shortest <= words <= longest:
            yield f"{article.id}: has {words} words; {shortest} to {longest} are the bounds"
    sentences = {article.id: list(_sentences(article)) for article in articles.values()}
    ids: set[str] = set()
    for question in questions:
        if question.id in ids:
            yield f"{question.id}: is the id of two questions"
        ids.add(question.id)
        if question.kind not in KINDS:
            yield f"{question.id}: has a kind that is not in KINDS: {question.kind}"
        missing = [span.article for span in question.evidence if span.article not in articles]
        if missing or not question.evidence:
            yield f"{question.id}: its evidence names no article of the library: {missing}"
            continue
        yield from _evidence_faults(question, articles)
        yield from _answer_faults(question, articles)
        yield from _rival_faults(question, articles, sentences)


def _evidence_faults(question: LibraryQuestion, articles: Mapping[str, Article]) -> Iterator[str]:
    for span in question.evidence:
        article = articles[span.article]
        if article.split != question.split:
            yield f"{question.id}: is in the split {question.split}, its article {article.id} is not"
        if question.kind == UNANSWERABLE:
            if span.start or span.end:
                yield f"{question.id}: nothing proves that a question is unanswerable, so its span is [0, 0)"
        elif not _is_whole_sentences(article, span):
            text = article.text[span.start : span.end]
            yield f"{question.id}: its evidence is not whole sentences of a paragraph of {article.id}: {text!r}"


def _answer_faults(question: LibraryQuestion, articles: Mapping[str, Article]) -> Iterator[str]:
    answers = list(question.answers)
    if question.kind == LIST and len(answers) < 3:
        yield f"{question.id}: a list has three items or more"
    if not answers or not all(map(normalised_tokens, answers)):
        yield f"{question.id}: has an empty answer"
        return
    if question.kind == UNANSWERABLE:
        return
    in_question = [answer for answer in answers if sub_em(question.question, [answer])]
    if question.kind == COMPARISON:
        if not in_question:
            yield f"{question.id}: a comparison names what it compares, and with it the answer"
    elif in_question:
        yield f"{question.id}: the answer {in_question} stands in the question"
    proof = " \n ".join(articles[span.article].text[span.start : span.end] for span in question.evidence)
    titles = " \n ".join(articles[span.article].title for span in question.evidence)
    if question.kind == NUMBER:
        for name in _article_ids(question):
            if sub_em(articles[name].text, answers):
                yield f"{question.id}: its number stands in {name}, so nothing has to be computed"
    elif question.kind == LIST:
        for answer in answers:
            if not sub_em(proof, [answer]):
                yield f"{question.id}: the item {answer!r} is not in the evidence"
    elif not sub_em(f"{proof} \n {titles}", answers):
        yield f"{question.id}: no answer is in the evidence"


def _rival_faults(
    question: LibraryQuestion, articles: Mapping[str, Article], sentences: Mapping[str, list[str]]
) -> Iterator[str]:
    """Other articles that seem to answer the question."""
    if question.kind in (UNANSWERABLE, NUMBER, COMPARISON):
        return
    own = _article_ids(question)
    question_words = set(normalised_tokens(question.question)) - set(_SMALL_WORDS.split())
    titles = [articles[name].title for name in own]
    for article in articles.values():
        if article.id in own:
            continue
        for sentence in sentences[article.id]:
            if question.kind == LIST:
                answered = all(sub_em(sentence, [answer]) for answer in question.answers)
            else:
                answered = bool(sub_em(sentence, question.answers))
            if not answered:
                continue
            shared = len(question_words & set(normalised_tokens(sentence)))
            if shared >= _MOST * len(question_words) or sub_em(sentence, titles):
                yield f"{question.id}: {article.id} seems to answer it too: {sentence!r}"


def _article_ids(question: LibraryQuestion) -> set[str]:
    return {span.article for span in question.evidence}


def _is_whole_sentences(article: Article, span: Evidence) -> bool:
    """Whether a span begins and ends at the borders of sentences, within one paragraph."""
    for start, end in article.paragraphs():
        if start <= span.start < span.end <= end:
            borders = {start, end}
            for match in _SENTENCE_END.finditer(article.text, start, end):
                borders.update(match.span())
            return span.start in borders and span.end in borders
    return False


def _sentences(article: Article) -> Iterator[str]:
    borders = [0]
    for match in _SENTENCE_END.finditer(article.text):
        borders.append(match.end())
    for start, end in itertools.pairwise([*borders, len(article.text)]):
        yield article.text[start:end].strip()


if __name__ == "__main__":
    failed = False
    for name in LANGUAGES:
        for fault in faults(name, library_articles(name), library_questions(name)):
            failed = True
            print(f"{name}: {fault}")
    sys.exit(failed)
