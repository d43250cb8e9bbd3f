"""The three lessons of the curriculum as batches of tokens, made anew for every training step.

1. `echo_batch`: a random string, repeated; the loss is on the copies. Teaches to look a token up.
2. `restate_batch`: documents, then their facts in canonical form in another order; loss on the values.
3. `question_batch`: one context with several questions. Every question is a branch that sees the context and
   itself only, at the positions it would have alone: the exact prompt of the factory, with the
   context paid for once. Loss on the answers.

A batch depends on its seed alone, so training resumes without any state of a random generator.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.microworld.preferences import chosen_answer
from tasks.microworld.questions import LIST, ONE_HOP, THREE_HOP, TWO_HOP, Question, in_reading_order, make_questions
from tasks.microworld.teachers import imperfect_reply
from tasks.microworld.tokenizer import ASSISTANT, BOS, EOS, SPACE, SPECIAL, USER
from tasks.microworld.words import NAMES
from tasks.microworld.world import Document, documents, make_world

IGNORED = -100
_PEOPLE = (12, 24, 40)
_STRATEGY_SHARES = {"plan_and_solve": 4, "direct_answer": 3}  # every other strategy: 1


@dataclass(frozen=True)
class Batch:
    """Rows of token ids, their labels and positions, and which key each query may see (True = may)."""

    tokens: torch.Tensor  # (rows, length) int64
    labels: torch.Tensor  # (rows, length) int64, IGNORED where no loss is taken
    positions: torch.Tensor  # (rows, length) int64
    visible: torch.Tensor | None  # (rows, 1, length, length) bool; None = plain causal


@dataclass(frozen=True)
class Prompt:
    """A sampling prompt cut at its question: the part that the context fills, and the part after it."""

    strategy: str
    before: str  # holds {context}
    after: str  # begins with the white space before the question, holds {question}


def read_prompts(folder: Path) -> list[Prompt]:
    """Read every `sample-*.txt` of a prompt folder."""
    prompts = []
    for path in sorted(folder.glob("sample-*.txt")):
        before, after = path.read_text(encoding="utf-8").strip().split("{question}")
        space = before[len(before.rstrip()) :]
        strategy = path.stem.removeprefix("sample-")
        prompts.append(Prompt(strategy, before.rstrip(), f"{space}{{question}}{after}"))
    return prompts


def render(shown: Sequence[Document]) -> str:
    """Documents as the factory shows them: numbered from 1, a blank line between."""
    return "\n\n".join(f"Passage {i}: {doc.title}\n{doc.text}" for i, doc in enumerate(shown, 1))


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
    """Lesson 1, about `size` tokens: short strings of names, four times (easy), or longer ones twice."""
    rng = random.Random(seed)
    length, copies = (rng.randint(6, 16), 4) if easy else (rng.randint(16, 48), 2)
    names = [f"{SPACE}{name}" for kind in NAMES.values() for name in kind]
    pool = tokenizer.convert_tokens_to_ids(names)
    if not easy and rng.random() < 0.5:
        pool = range(len(SPECIAL), len(tokenizer))
    bos = tokenizer.convert_tokens_to_ids(BOS)
    sequences = []
    for _ in range(size // (length * copies)):
        string = rng.sample(pool, length)
        repeats = (string * (copies - 1))[1:]  # the first token of the second copy cannot be known
        sequences.append(([bos, *string * copies], [IGNORED] * (length + 2) + repeats))
    return _plain(sequences)


def restate_batch(tokenizer: Any, seed: str, rows: int, docs: int, plain: bool) -> Batch:
    """Lesson 2: this many documents, then each fact once more, in random order; plain documents hold the very
    same sentences, others the varied ones."""
    rng = random.Random(seed)
    sequences = []
    for _ in range(rows):
        shown = _some_documents(rng, docs, plain)
        facts = list(dict.fromkeys(fact for document in shown for fact in document.facts))
        tokens = _encode(tokenizer, f"{BOS}{USER}{render(shown)}\n\n")
        labels = [IGNORED] * len(tokens)
        for fact in rng.sample(facts, min(len(facts), 24)):
            stem = _encode(tokenizer, fact.sentence.removesuffix(f" {fact.value}."))
            value = _encode(tokenizer, f" {fact.value}")
            tokens += [*stem, *value, *_encode(tokenizer, ".")]
            labels += [*[IGNORED] * len(stem), *value, IGNORED]
        sequences.append((tokens, labels))
    return _plain(sequences)


def question_batch(
    tokenizer: Any,
    prompts: Sequence[Prompt],
    seed: str,
    rows: int,
    docs: int,
    branches: int,
    lists: float = 0.25,
    imperfect: bool = False,
) -> Batch:
    """Lesson 3: contexts of about this many documents, each with this many questions (branches), a share of them
    list questions. With `imperfect`, answers to plan_and_solve are the teachers', else all are right."""
    rng = random.Random(seed)
    trunk_prompt = rng.choice(prompts).before
    fitting = [prompt for prompt in prompts if prompt.before == trunk_prompt]
    weights = [_STRATEGY_SHARES.get(prompt.strategy, 1) for prompt in fitting]
    built = []
    for _ in range(rows):
        shown, asked = context_and_questions(rng, docs, branches, lists=lists)
        trunk = _encode(tokenizer, f"{BOS}{USER}{trunk_prompt}".replace("{context}", render(shown)))
        pieces = []
        for question in asked:
            prompt = rng.choices(fitting, weights)[0]
            ask = _encode(tokenizer, prompt.after.replace("{question}", question.question) + ASSISTANT)
            faulty = imperfect and prompt.strategy == "plan_and_solve"
            reply = imperfect_reply(rng, question, shown) if faulty else gold_reply(question, prompt.strategy)
            pieces.append((ask, _encode(tokenizer, reply + EOS)))
        built.append((trunk, pieces))
    return _branched(built)


def context_and_questions(
    rng: random.Random, docs: int, count: int, people: int | None = None, lists: float = 0.25
) -> tuple[list[Document], list[Question]]:
    """A fresh world's shuffled context of about `docs` documents and up to `count` questions it answers."""
    world = make_world(f"lesson:{rng.random()}", people or rng.choice(_PEOPLE))
    everything = documents(world)
    chains = {ONE_HOP: 0.35, TWO_HOP: 0.4, THREE_HOP: 0.25}
    shares = {kind: share * (1 - lists) for kind, share in chains.items()} | {LIST: lists}
    asked: list[Question] = []
    needed: dict[int, None] = {}
    for question in make_questions(world, everything, "lesson", count * 2, shares):
        grown = dict.fromkeys([*needed, *question.supports])
        if len(asked) < count and (not asked or len(grown) <= docs):
            asked.append(question)
            needed = grown
    others = [index for index in range(len(everything)) if index not in needed]
    rng.shuffle(others)
    chosen = [*needed, *others[: max(0, docs - len(needed))]]
    rng.shuffle(chosen)
    shown = [everything[index] for index in chosen]
    return shown, [in_reading_order(question, shown) for question in asked]


def _some_documents(rng: random.Random, docs: int, plain: bool) -> list[Document]:
    everything = documents(make_world(f"lesson:{rng.random()}", rng.choice(_PEOPLE)))
    shown = rng.sample(everything, min(docs, len(everything)))
    if plain:
        return [Document(doc.title, " ".join(fact.sentence for fact in doc.facts), doc.facts) for doc in shown]
    return shown


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def _plain(sequences: Sequence[tuple[list[int], list[int]]]) -> Batch:
    length = max(len(tokens) for tokens, _ in sequences)
    tokens = torch.zeros(len(sequences), length, dtype=torch.long)
    labels = torch.full((len(sequences), length), IGNORED)
    for row, (ids, targets) in enumerate(sequences):
        tokens[row, : len(ids)] = torch.tensor(ids)
        labels[row, : len(targets)] = torch.tensor(targets)
    return Batch(tokens, labels, torch.arange(length).expand_as(tokens), None)


def _branched(built: Sequence[tuple[list[int], list[tuple[list[int], list[int]]]]]) -> Batch:
    """Lay each context and its branches out in one row; a branch sees the context and itself."""
    lengths = [len(trunk) + sum(len(ask) + len(reply) for ask, reply in pieces) for trunk, pieces in built]
    shape = (len(built), max(lengths))
    tokens, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORED)
    positions, branch = torch.zeros(shape, dtype=torch.long), torch.full(shape, -1)
    for row, (trunk, pieces) in enumerate(built):
        start = len(trunk)
        tokens[row, :start], positions[row, :start] = torch.tensor(trunk), torch.arange(start)
        branch[row, :start] = 0
        for number, (ask, reply) in enumerate(pieces, 1):
            end = start + len(ask) + len(reply)
            tokens[row, start:end] = torch.tensor(ask + reply)
            labels[row, start + len(ask) : end] = torch.tensor(reply)
            positions[row, start:end] = torch.arange(len(trunk), len(trunk) + end - start)
            branch[row, start:end] = number
            start = end
    causal = torch.ones(shape[1], shape[1], dtype=torch.bool).tril()
    same = branch[:, :, None] == branch[:, None, :]
    return Batch(tokens, labels, positions, ((same | (branch[:, None, :] == 0)) & causal)[:, None])
