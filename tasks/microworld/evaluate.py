"""How well a policy reads: SubEM on held-out worlds, by context length and kind of question.

For each question: one greedy reply, n sampled ones and their majority, and the chance of picking a random
candidate of the right kind from the context. Worlds are drawn with seeds that training never uses. This is
the trainer's own check with plain transformers; the factory has an evaluation of its own.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tasks.microworld.lessons import Prompt, render
from tasks.microworld.phrases import RELATIONS
from tasks.microworld.questions import LIST, SHARES_BY_HOPS, Question, in_reading_order, make_questions
from tasks.microworld.world import Document, documents, make_world

SAMPLES = 8
TEMPERATURE = 0.7
_PEOPLE = 60
_LONGEST_REPLY = 96  # tokens
_BATCH = 16  # questions


@dataclass(frozen=True)
class Case:
    """A held-out question with its context."""

    question: Question
    shown: tuple[Document, ...]

    @property
    def chance(self) -> float:
        """The probability that a random choice among the context's candidates is right."""
        relation = RELATIONS[self.question.facts[-1].relation]
        asked_for_subjects = self.question.kind == LIST and self.question.answers[0] == self.question.facts[0].subject
        kind = relation.subject_kind if asked_for_subjects else relation.value_kind
        named: dict[str, None] = {}
        for fact in (fact for document in self.shown for fact in document.facts):
            known = RELATIONS[fact.relation]
            named.update({fact.subject: None} if known.subject_kind == kind else {})
            named.update({fact.value: None} if known.value_kind == kind else {})
        return 1 / math.comb(max(len(named), 1), min(len(self.question.answers), max(len(named), 1)))


def held_out(tokenizer: Any, seed: int | str, count: int, length: int) -> list[Case]:
    """Questions with contexts of at most this many tokens, filled with documents of the question's world."""
    cases: list[Case] = []
    for number in range(math.ceil(count / 8)):
        world = make_world(f"held-out:{seed}:{number}", _PEOPLE)
        docs = documents(world)
        sizes = [len(tokenizer(render([doc])).input_ids) + 2 for doc in docs]
        rng = random.Random(f"held-out:{seed}:{number}:{length}")
        for question in make_questions(world, docs, f"held-out:{seed}", 8, SHARES_BY_HOPS[3]):
            chosen = list(question.supports)
            left = length - sum(sizes[index] for index in chosen)
            for index in rng.sample(range(len(docs)), len(docs)):
                if index not in chosen and sizes[index] <= left:
                    chosen.append(index)
                    left -= sizes[index]
            rng.shuffle(chosen)
            shown = tuple(docs[index] for index in chosen)
            cases.append(Case(in_reading_order(question, shown), shown))
    return cases[:count]


def evaluate(
    model: Any, tokenizer: Any, prompt: Prompt, seed: int | str, count: int, length: int
) -> dict[str, dict[str, float]]:
    """SubEM in percent by kind, and over all: greedy, sampled (mean), majority of the samples, chance."""
    cases = held_out(tokenizer, seed, count, length)
    torch.manual_seed(0)
    scores: dict[str, list[tuple[float, ...]]] = {}
    for start in range(0, len(cases), _BATCH):
        batch = cases[start : start + _BATCH]
        chats = [chat_tokens(tokenizer, prompt, case) for case in batch]
        greedy = replies(model, tokenizer, chats, 1)
        sampled = replies(model, tokenizer, chats, SAMPLES)
        for case, first, several in zip(batch, greedy, sampled, strict=True):
            hits = [sub_em(reply, case.question.answers) for reply in several]
            winner = Counter(_answer_part(reply) for reply in several).most_common(1)[0][0]
            row = (
                sub_em(first[0], case.question.answers),
                sum(hits) / len(hits),
                sub_em(winner, case.question.answers),
                case.chance,
            )
            for kind in (case.question.kind, "all"):
                scores.setdefault(kind, []).append(row)
    names = ("greedy", "sampled", "majority", "chance")
    return {
        kind: {
            name: round(100 * sum(column) / len(rows), 1)
            for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }
        | {"questions": len(rows)}
        for kind, rows in sorted(scores.items())
    }


def chat_tokens(tokenizer: Any, prompt: Prompt, case: Case) -> list[int]:
    """The token ids of a case in a sampling prompt, as the chat template writes them."""
    content = (prompt.before + prompt.after).replace("{context}", render(case.shown))
    messages = [{"role": "user", "content": content.replace("{question}", case.question.question)}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


@torch.no_grad()
def replies(
    model: Any, tokenizer: Any, chats: Sequence[list[int]], samples: int, longest: int = _LONGEST_REPLY
) -> list[list[str]]:
    """Reply to each chat (token ids) in at most `longest` tokens: greedily when one sample is wanted, else at
    TEMPERATURE."""
    length = max(map(len, chats))
    pad = tokenizer.pad_token_id
    tokens = torch.tensor([[pad] * (length - len(chat)) + chat for chat in chats]).to(model.device)
    options = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0} if samples > 1 else {"do_sample": False}
    out = model.generate(
        tokens,
        attention_mask=(tokens != pad).long(),
        max_new_tokens=longest,
        pad_token_id=pad,
        num_return_sequences=samples,
        **options,
    )
    texts = tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)
    return [texts[start : start + samples] for start in range(0, len(texts), samples)]


def sub_em(reply: str, answers: Sequence[str]) -> float:
    """1 when every answer is contained in the reply's answer line (or in the whole reply, without one)."""
    said = _answer_part(reply).lower()
    return float(all(answer.lower() in said for answer in answers))


def _answer_part(reply: str) -> str:
    return reply.rpartition("Answer:")[2].strip()
