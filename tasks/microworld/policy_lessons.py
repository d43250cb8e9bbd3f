"""The three lessons of the policy as batches of tokens, made anew for every step of the training.

1. `echo_batch`: a random string, repeated; the loss is on the copies. Teaches the model to look up a token.
2. `restate_batch`: documents, then their facts as canonical sentences in another order; the loss is on the values.
3. `question_batch`: one context with several questions. Every question is a branch that sees only the context and
   itself, at the positions that it would have alone: exactly the prompt of the factory, but the context is computed
   once for all of them. The loss is on the answers.

A batch depends on its seed alone, so training resumes without the state of a random generator.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.microworld.answers import chosen_answer, imperfect_reply
from tasks.microworld.questions import LIST, ONE_HOP, THREE_HOP, TWO_HOP, Question, in_reading_order, make_questions
from tasks.microworld.tokenizer import ASSISTANT, BOS, EOS, SPACE, SPECIAL, USER, encode
from tasks.microworld.words import NAMES
from tasks.microworld.world import WorldDocument, make_world, sentences_of, stated_facts, write_documents

IGNORED = -100  # the label of a token that has no loss
_PEOPLE = (12, 24, 40)
_MAX_RESTATED_FACTS = 24  # of a context
_STRATEGY_WEIGHTS = {"plan_and_solve": 4, "direct_answer": 3}  # every other strategy: 1


@dataclass(frozen=True)
class Batch:
    """Rows of token ids, their labels and positions, and which keys each query sees (True: it does)."""

    tokens: torch.Tensor  # (rows, length) int64
    labels: torch.Tensor  # (rows, length) int64, IGNORED where there is no loss
    positions: torch.Tensor  # (rows, length) int64
    visible: torch.Tensor | None  # (rows, 1, length, length) bool; None: plain causal attention


@dataclass(frozen=True)
class LessonPrompt:
    """A sampling prompt in two parts: up to the question, and from the question on."""

    strategy: str
    before: str  # has the placeholder {context}
    after: str  # the white space before the question, the placeholder {question}, and the rest


@dataclass(frozen=True)
class _Branch:
    """A question about a context, in tokens."""

    prompt: list[int]  # from the question on
    reply: list[int]


def read_prompts(folder: Path) -> list[LessonPrompt]:
    """Read every `sample-*.txt` of a prompt folder."""
    prompts = []
    for path in sorted(folder.glob("sample-*.txt")):
        before, after = path.read_text(encoding="utf-8").strip().split("{question}")
        space = before[len(before.rstrip()) :]
        strategy = path.stem.removeprefix("sample-")
        prompts.append(LessonPrompt(strategy, before.rstrip(), f"{space}{{question}}{after}"))
    return prompts


def render(docs: Sequence[WorldDocument]) -> str:
    """A context as the factory writes it: documents numbered from 1, a blank line between them."""
    passages = []
    for number, document in enumerate(docs, 1):
        passages.append(f"Passage {number}: {document.title}\n{document.text}")
    return "\n\n".join(passages)


def gold_reply(question: Question, strategy: str) -> str:
    """The reply that the model is taught for a strategy."""
    if strategy == "direct_answer":
        return question.answer
    if strategy == "plan_and_solve":
        return chosen_answer(question)
    if strategy == "fact_and_reflection":
        facts, answer = question.reasoning.split("\n")
        return f"Facts: {facts}\nReflection: nothing is missing.\n{answer}"
    return question.reasoning


def echo_batch(tokenizer: Any, seed: str, size: int, easy: bool) -> Batch:
    """Lesson 1, about `size` tokens: short strings of names, four times (easy), or longer strings, twice."""
    rng = random.Random(seed)
    length, copies = (rng.randint(6, 16), 4) if easy else (rng.randint(16, 48), 2)
    names: list[str] = []
    for names_of_kind in NAMES.values():
        for name in names_of_kind:
            names.append(f"{SPACE}{name}")
    pool = tokenizer.convert_tokens_to_ids(names)
    if not easy and rng.random() < 0.5:
        pool = range(len(SPECIAL), len(tokenizer))
    bos = tokenizer.convert_tokens_to_ids(BOS)
    sequences = []
    for _ in range(size // (length * copies)):
        string = rng.sample(pool, length)
        predictable = (string * (copies - 1))[1:]  # without the first token of the second copy
        sequences.append(([bos, *string * copies], [IGNORED] * (length + 2) + predictable))
    return _causal_batch(sequences)


def restate_batch(tokenizer: Any, seed: str, rows: int, document_count: int, plain: bool) -> Batch:
    """Lesson 2: documents, then their facts once more in random order. Plain documents hold the very same sentences,
    others the varied ones of the world."""
    rng = random.Random(seed)
    sequences = []
    for _ in range(rows):
        docs = _some_documents(rng, document_count, plain)
        facts = list(dict.fromkeys(stated_facts(docs)))
        tokens = encode(tokenizer, f"{BOS}{USER}{render(docs)}\n\n")
        labels = [IGNORED] * len(tokens)
        for fact in rng.sample(facts, min(len(facts), _MAX_RESTATED_FACTS)):
            before_value = encode(tokenizer, fact.sentence.removesuffix(f" {fact.value}."))
            value = encode(tokenizer, f" {fact.value}")
            tokens += [*before_value, *value, *encode(tokenizer, ".")]
            labels += [*[IGNORED] * len(before_value), *value, IGNORED]
        sequences.append((tokens, labels))
    return _causal_batch(sequences)


def question_batch(
    tokenizer: Any,
    prompts: Sequence[LessonPrompt],
    seed: str,
    rows: int,
    document_count: int,
    questions: int,
    lists: float = 0.25,
    imperfect: bool = False,
) -> Batch:
    """Lesson 3: contexts of about this many documents, each with this many questions.

    `lists`: the share of list questions. With `imperfect`, answers to plan_and_solve are the teachers' answers, else
    all answers are right.
    """
    rng = random.Random(seed)
    before = rng.choice(prompts).before
    fitting, weights = [], []
    for prompt in prompts:
        if prompt.before == before:
            fitting.append(prompt)
            weights.append(_STRATEGY_WEIGHTS.get(prompt.strategy, 1))
    contexts = []
    for _ in range(rows):
        docs, drawn = context_and_questions(rng, document_count, questions, lists=lists)
        context = encode(tokenizer, f"{BOS}{USER}{before}".replace("{context}", render(docs)))
        branches = []
        for question in drawn:
            prompt = rng.choices(fitting, weights)[0]
            after = prompt.after.replace("{question}", question.question)
            if imperfect and prompt.strategy == "plan_and_solve":
                reply = imperfect_reply(rng, question, docs)
            else:
                reply = gold_reply(question, prompt.strategy)
            branches.append(_Branch(encode(tokenizer, after + ASSISTANT), encode(tokenizer, reply + EOS)))
        contexts.append((context, branches))
    return _branched_batch(contexts)


def context_and_questions(
    rng: random.Random, document_count: int, count: int, people: int | None = None, lists: float = 0.25
) -> tuple[list[WorldDocument], list[Question]]:
    """The documents of a context of a fresh world, shuffled, about so many; and up to `count` questions about them."""
    world = make_world(f"lesson:{rng.random()}", people or rng.choice(_PEOPLE))
    all_docs = write_documents(world)
    hops_share = 1 - lists
    shares = {ONE_HOP: 0.35 * hops_share, TWO_HOP: 0.4 * hops_share, THREE_HOP: 0.25 * hops_share, LIST: lists}
    questions: list[Question] = []
    supports: dict[int, None] = {}  # of all chosen questions
    for question in make_questions(world, all_docs, "lesson", count * 2, shares):
        more_supports = dict.fromkeys([*supports, *question.supports])
        if len(questions) < count and (not questions or len(more_supports) <= document_count):
            questions.append(question)
            supports = more_supports
    others = [index for index in range(len(all_docs)) if index not in supports]
    rng.shuffle(others)
    indices = [*supports, *others[: max(0, document_count - len(supports))]]
    rng.shuffle(indices)
    docs = [all_docs[index] for index in indices]
    return docs, [in_reading_order(question, docs) for question in questions]


def _some_documents(rng: random.Random, count: int, plain: bool) -> list[WorldDocument]:
    all_docs = write_documents(make_world(f"lesson:{rng.random()}", rng.choice(_PEOPLE)))
    docs = rng.sample(all_docs, min(count, len(all_docs)))
    if not plain:
        return docs
    plain_docs = []
    for document in docs:
        text = " ".join(sentences_of(document.facts))
        plain_docs.append(WorldDocument(document.title, text, document.facts))
    return plain_docs


def _causal_batch(sequences: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Sequences of (tokens, labels) as rows, padded at the end."""
    length = max(len(tokens) for tokens, _ in sequences)
    tokens = torch.zeros(len(sequences), length, dtype=torch.long)
    labels = torch.full((len(sequences), length), IGNORED)
    for row, (row_tokens, row_labels) in enumerate(sequences):
        tokens[row, : len(row_tokens)] = torch.tensor(row_tokens)
        labels[row, : len(row_labels)] = torch.tensor(row_labels)
    return Batch(tokens, labels, torch.arange(length).expand_as(tokens), None)


def _branched_batch(contexts: Sequence[tuple[list[int], list[_Branch]]]) -> Batch:
    """Each context and its branches in one row; a branch sees the context and itself."""
    lengths = []
    for context, branches in contexts:
        length = len(context)
        for branch in branches:
            length += len(branch.prompt) + len(branch.reply)
        lengths.append(length)
    shape = (len(contexts), max(lengths))
    tokens, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORED)
    positions = torch.zeros(shape, dtype=torch.long)
    branch_numbers = torch.full(shape, -1)  # 0 for the context, -1 for padding
    for row, (context, branches) in enumerate(contexts):
        start = len(context)
        tokens[row, :start], positions[row, :start] = torch.tensor(context), torch.arange(start)
        branch_numbers[row, :start] = 0
        for number, branch in enumerate(branches, 1):
            end = start + len(branch.prompt) + len(branch.reply)
            tokens[row, start:end] = torch.tensor(branch.prompt + branch.reply)
            labels[row, start + len(branch.prompt) : end] = torch.tensor(branch.reply)
            positions[row, start:end] = torch.arange(len(context), len(context) + end - start)
            branch_numbers[row, start:end] = number
            start = end
    causal = torch.ones(shape[1], shape[1], dtype=torch.bool).tril()
    same_branch = branch_numbers[:, :, None] == branch_numbers[:, None, :]
    in_context = branch_numbers[:, None, :] == 0
    return Batch(tokens, labels, positions, ((same_branch | in_context) & causal)[:, None])
