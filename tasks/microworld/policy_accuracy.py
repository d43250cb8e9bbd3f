"""How often the policy is right on worlds that it was not trained on; and its folder, with a card that says so.

Each question gets one greedy reply and several samples; their most frequent answer is the majority. The chance is that
of picking the answer at random among the names of the right kind in the context. This is the trainer's own check with
plain transformers; the factory has an evaluation of its own. The folder loads with transformers and vLLM as it is.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.metrics import final_answer
from tasks.microworld.policy_lessons import LessonPrompt, render
from tasks.microworld.questions import LIST, SHARES_BY_HOPS, Question, in_reading_order, make_questions
from tasks.microworld.training import generate_replies, generation_config, machine
from tasks.microworld.words import RELATIONS
from tasks.microworld.world import WorldDocument, make_world, write_documents
from tasks.sub_em import sub_em

LENGTHS, QUESTIONS = (256, 512, 1024), 96  # of the card: tokens of a context; questions for each length
STRATEGIES = ("plan_and_solve", "direct_answer")  # the prompts of the card
SAMPLES = 8
TEMPERATURE = 0.7
_PEOPLE = 60
_QUESTIONS_PER_WORLD = 8
_MAX_REPLY_TOKENS = 96
_BATCH = 16  # questions

_CARD = """---
license: apache-2.0
language: en
tags: [longmill, microworld, synthetic]
---

# The microworld's policy

A Llama-architecture model of {parameters:,} parameters that answers questions about a fictional world from
the passages in its context. It knows nothing else, and nothing about the real world. It is the embedded
default that lets Longmill run end to end on any machine; it has not been aligned.

- **Data**: worlds, passages and questions from `tasks/microworld`, a fresh world for every row of every
  training batch; no real person, place or text. Prompts: `tasks/prompts/en/sample-*.txt`.
- **Recipe**: {recipe}; AdamW, cosine, running average of the weights. Seed {seed}.
  `longmill microworld train policy --seed {seed}`
- **Machine and time**: {machine}, {minutes} minutes.
- **Licence**: Apache-2.0.

## Measured

SubEM in percent on held-out worlds, by length of the context in tokens. `sampled` is the mean over {samples}
samples at temperature {temperature}, `majority` their most frequent answer, `chance` a random candidate of
the right kind. A list question counts only when every item is named.

| prompt | context | kind | questions | greedy | sampled | majority | chance |
|---|---|---|---|---|---|---|---|
{rows}
"""


@dataclass(frozen=True)
class HeldOutQuestion:
    """A held-out question and the documents of its context."""

    question: Question
    docs: tuple[WorldDocument, ...]

    @property
    def chance(self) -> float:
        """The probability that names of the right kind, picked at random from the context, are the answer."""
        last = self.question.facts[-1]
        answers_are_subjects = self.question.kind == LIST and self.question.answers[0] == self.question.facts[0].subject
        relation = RELATIONS[last.relation]
        kind = relation.subject_kind if answers_are_subjects else relation.value_kind
        candidates: set[str] = set()
        for document in self.docs:
            for fact in document.facts:
                if RELATIONS[fact.relation].subject_kind == kind:
                    candidates.add(fact.subject)
                if RELATIONS[fact.relation].value_kind == kind:
                    candidates.add(fact.value)
        count = max(len(candidates), 1)
        return 1 / math.comb(count, min(len(self.question.answers), count))


def export_policy(
    model: Any, tokenizer: Any, prompts: list[LessonPrompt], recipe: str, seed: int, out: Path, seconds: float
) -> dict[str, Any]:
    """Measure the model and write it with its card. Returns SubEM in percent over all kinds, by prompt and length.

    `recipe`: what the training did, in words for the card; `seconds`: how long it took.
    """
    model.eval()
    rows: list[str] = []
    summary: dict[str, Any] = {}
    for strategy in STRATEGIES:
        prompt = next(prompt for prompt in prompts if prompt.strategy == strategy)
        for length in LENGTHS:
            accuracy = policy_accuracy(model, tokenizer, prompt, seed, QUESTIONS, length)
            summary[f"{strategy}@{length}"] = accuracy["all"]
            for kind, row in accuracy.items():
                rows.append(
                    f"| {strategy} | {length} | {kind} | {row['questions']} | {row['greedy']} | {row['sampled']} "
                    f"| {row['majority']} | {row['chance']} |"
                )
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config = generation_config(tokenizer)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    card = _CARD.format(
        parameters=model.num_parameters(),
        recipe=recipe,
        seed=seed,
        machine=machine(),
        minutes=round(seconds / 60),
        samples=SAMPLES,
        temperature=TEMPERATURE,
        rows="\n".join(rows),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    return summary


def held_out_questions(tokenizer: Any, seed: int | str, count: int, length: int) -> list[HeldOutQuestion]:
    """Questions with contexts of at most `length` tokens, filled with other documents of the question's world."""
    held_out: list[HeldOutQuestion] = []
    for number in range(math.ceil(count / _QUESTIONS_PER_WORLD)):
        world = make_world(f"held-out:{seed}:{number}", _PEOPLE)
        docs = write_documents(world)
        sizes = []
        for document in docs:
            sizes.append(len(tokenizer(render([document])).input_ids) + 2)
        rng = random.Random(f"held-out:{seed}:{number}:{length}")
        for question in make_questions(world, docs, f"held-out:{seed}", _QUESTIONS_PER_WORLD, SHARES_BY_HOPS[3]):
            chosen = list(question.supports)
            left = length
            for index in chosen:
                left -= sizes[index]
            for index in rng.sample(range(len(docs)), len(docs)):
                if index not in chosen and sizes[index] <= left:
                    chosen.append(index)
                    left -= sizes[index]
            rng.shuffle(chosen)
            context_docs = tuple(docs[index] for index in chosen)
            held_out.append(HeldOutQuestion(in_reading_order(question, context_docs), context_docs))
    return held_out[:count]


def policy_accuracy(
    model: Any, tokenizer: Any, prompt: LessonPrompt, seed: int | str, count: int, length: int
) -> dict[str, dict[str, float]]:
    """By kind of question, and for "all": SubEM in percent of greedy, sampled (mean) and majority answers; the chance
    in percent; and the number of questions."""
    held_out = held_out_questions(tokenizer, seed, count, length)
    torch.manual_seed(0)
    scores: dict[str, dict[str, list[float]]] = {}
    for start in range(0, len(held_out), _BATCH):
        batch = held_out[start : start + _BATCH]
        chats = [chat_tokens(tokenizer, prompt, example) for example in batch]
        greedy = generate_replies(model, tokenizer, chats, _MAX_REPLY_TOKENS)
        sampled = generate_replies(model, tokenizer, chats, _MAX_REPLY_TOKENS, SAMPLES, TEMPERATURE)
        for example, (greedy_reply,), samples in zip(batch, greedy, sampled, strict=True):
            answers = example.question.answers
            ((majority, _),) = Counter(map(final_answer, samples)).most_common(1)
            values = {
                "greedy": reply_sub_em(greedy_reply, answers),
                "sampled": sum(reply_sub_em(reply, answers) for reply in samples) / SAMPLES,
                "majority": reply_sub_em(majority, answers),
                "chance": example.chance,
            }
            for kind in (example.question.kind, "all"):
                for name, value in values.items():
                    scores.setdefault(kind, {}).setdefault(name, []).append(value)
    accuracy: dict[str, dict[str, float]] = {}
    for kind, by_name in sorted(scores.items()):
        accuracy[kind] = {}
        for name, values_of_name in by_name.items():
            accuracy[kind][name] = round(100 * sum(values_of_name) / len(values_of_name), 1)
        accuracy[kind]["questions"] = len(by_name["greedy"])
    return accuracy


def chat_tokens(tokenizer: Any, prompt: LessonPrompt, example: HeldOutQuestion) -> list[int]:
    """The token ids of a question in a sampling prompt, as the chat template writes them."""
    content = (prompt.before + prompt.after).replace("{context}", render(example.docs))
    messages = [{"role": "user", "content": content.replace("{question}", example.question.question)}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def reply_sub_em(reply: str, answers: Sequence[str]) -> float:
    """SubEM of a reply's final answer, which must hold every one of the answers: 1.0 or 0.0."""
    final = final_answer(reply)
    return float(all(sub_em(final, [answer]) for answer in answers))
