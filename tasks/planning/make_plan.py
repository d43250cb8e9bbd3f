"""Planning: the questions of a recipe, checked, with their contexts, in deterministic shards, before any call.

The source is streamed. Each shard becomes two tables under `inputs/`, named by the hash of their bytes; `plan.json`
comes last, put-if-absent, and names them. The plan's id is the hash of its content, so the same input and recipe give
the same id, the same names and the same bytes in any process. A shard holds at most `execution.shard_size` questions
in the source's order, fewer when their contexts pass SHARD_CHARACTERS, and those of one context come together. Memory
holds one shard, the ids and the drops.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import get_args

import pyarrow as pa

from infra.canonical import canonical_json, fingerprint
from infra.errors import BalanceError, InputError, RecipeError
from infra.models.special_tokens import uncommon
from infra.models.tokens import has_chat_template, load_tokenizer
from infra.recipe import Language, Questions, Recipe
from infra.running import progress
from infra.store import Store, table_bytes
from tasks.contexts import BuiltQuestion, context_options
from tasks.judging.calibration import check_calibration
from tasks.judging.cascade_calibration import load_cascade
from tasks.pairing import find_rule
from tasks.planning.articles import NO_ARTICLE
from tasks.planning.building import build_with, counted_pool
from tasks.planning.distractors import Pool
from tasks.planning.limits import PROMPT_TOO_LONG, TOO_LONG_TO_TRAIN
from tasks.planning.passages import heading_prompt
from tasks.planning.rules import rules_of
from tasks.planning.workers import Elsewhere, planning_workers
from tasks.prompts import load_prompt
from tasks.questions import source_hint
from tasks.questions.rows import source_note
from tasks.questions.sessions import silent_note
from tasks.records import example as records
from tasks.records.example import Context, Drop, Example
from tasks.records.plan import AS_MESSAGES, TOOL_CALLS, Plan, PlannedShard, plan_path
from tasks.sample_prompt import sample_prompt_text
from tasks.samplers import check_sampler, find_sampler, no_short_context
from tasks.scoring import check_scorers, known_scorers
from tasks.stopping import check_stop
from tasks.training.losses import all_losses

SHARD_CHARACTERS = 64_000_000  # of contexts in one shard
_TOKENS_NAMED = 8  # in a warning
_CONTEXT_ROWS = 16  # rows per row group


def make_plan(recipe: Recipe, store: Store, *, for_pairs: bool = True, elsewhere: Elsewhere | None = None) -> Plan:
    """Read every question, build every context, write the shards and the plan. No call is made.

    `for_pairs`: its answers will be paired, so that the pairing rule and the loss must go with what they see.
    `elsewhere`: has ranges of the source built on other machines; the plan is the same.

    Raises InputError naming the fault when the input cannot be read or no question is left, RecipeError and
    PrerequisiteError for a tokenizer, format or strategy that is not there, StoreError for the store.
    """
    judge_prompts = _judge_prompt_names(recipe)
    check_calibration(recipe)
    load_cascade(recipe)
    context_options(recipe)
    check_sampler(recipe)
    check_stop(recipe)
    if for_pairs:
        _check_short_prompts(recipe)
    sample_prompt_text(recipe.sampling.strategy, recipe.questions.language)
    heading_prompt(recipe.contexts.passages, recipe.questions.language)
    tokenizer = load_tokenizer(recipe.policy.tokenizer, recipe.policy.trust_remote_code)
    tally = _Tally()
    shards = []
    with planning_workers(recipe, recipe.questions, elsewhere) as workers:
        pool = counted_pool(recipe, recipe.questions, tokenizer, workers)
        with closing(build_with(pool, workers, recipe, recipe.questions, tokenizer)) as outcomes:
            for index, shard in enumerate(sharded(tally.counted(outcomes), recipe.execution.shard_size)):
                shards.append(write_planned_shard(store, index, shard))
    planned = sum(shard.questions for shard in shards)
    reasons = Counter(drop.reason for drop in tally.drops)
    counts = dict(sorted(reasons.items()))
    if tally.rows != planned + len(tally.drops):
        raise BalanceError(f"{tally.rows} rows were read, but {planned} are planned and {len(tally.drops)} dropped")
    if not planned:
        raise InputError(_nothing_left(recipe.questions, counts, tally.drops))
    exact = has_chat_template(tokenizer)
    content = {
        "recipe": recipe.identity(),
        "prompts": _prompt_fingerprints(recipe.sampling.strategy, tally.languages, judge_prompts),
        "shards": [shard.to_json() for shard in shards],
        "questions": tally.rows,
        "drops": write_input(store, records.to_table(tally.drops, records.DROP)),
        "drop_counts": counts,
        "exact_prompt_tokens": exact,
        "warnings": [*pool.warnings, *_article_warnings(pool), *_warnings(recipe, tally, counts, exact)],
    }
    rules = rules_of(recipe)
    if tally.with_tools:
        rules[TOOL_CALLS] = AS_MESSAGES
    if rules:
        content["rules"] = rules
    uncommon_tokens = sorted(uncommon(tally.special_tokens))
    if uncommon_tokens:
        content["special_tokens"] = uncommon_tokens
    plan = Plan.from_json({"plan_id": fingerprint(content)[:16], **content})
    store.put_if_absent(plan_path(plan.plan_id), canonical_json(plan.to_json()))
    return plan


class _Tally:
    """Counts the questions that are built, and collects the drops."""

    def __init__(self) -> None:
        self.rows = self.short = self.with_special_tokens = self.with_tools = self.refused_tools = 0
        self.special_tokens: set[str] = set()
        self.languages: set[str] = set()
        self.silent_turns: list[int] = []  # of each history
        self.drops: list[Drop] = []

    def counted(self, outcomes: Iterable[BuiltQuestion | Drop]) -> Iterator[BuiltQuestion]:
        """The questions among the outcomes, in their order."""
        for outcome in outcomes:
            self.rows += 1
            progress.advance("plan")
            if isinstance(outcome, Drop):
                self.drops.append(outcome)
                continue
            self.short += outcome.short
            self.with_special_tokens += bool(outcome.special_tokens)
            self.with_tools += outcome.context.tool_use is not None
            self.refused_tools += outcome.refused_tools
            self.silent_turns.append(outcome.silent_turns)
            self.special_tokens.update(outcome.special_tokens)
            self.languages.add(outcome.example.language)
            yield outcome


def sharded(questions: Iterable[BuiltQuestion], shard_size: int) -> Iterator[list[BuiltQuestion]]:
    """The questions cut into shards, by number and by the characters of their different contexts."""
    shard: list[BuiltQuestion] = []
    sizes: dict[str, int] = {}  # characters of each context of the shard
    for built in questions:
        size = 0 if built.context.context_id in sizes else len(built.context.text)
        if shard and (len(shard) == shard_size or sum(sizes.values()) + size > SHARD_CHARACTERS):
            yield shard
            shard, sizes = [], {}
        shard.append(built)
        sizes.setdefault(built.context.context_id, len(built.context.text))
    if shard:
        yield shard


def write_planned_shard(store: Store, index: int, shard: list[BuiltQuestion]) -> PlannedShard:
    """Write the two tables of a shard; the examples of one context come together, contexts in order of first use."""
    contexts: dict[str, Context] = {}
    examples_of_context: dict[str, list[Example]] = {}
    prompt_tokens = 0
    sample_tokens: int | None = None
    for built in shard:
        prompt_tokens += built.prompt_tokens
        if built.sample_tokens is not None:
            sample_tokens = (sample_tokens or 0) + built.sample_tokens
        contexts[built.context.context_id] = built.context
        examples_of_context.setdefault(built.context.context_id, []).append(built.example)
    examples = list(itertools.chain.from_iterable(examples_of_context.values()))
    return PlannedShard(
        index=index,
        examples=write_input(store, records.to_table(examples, records.EXAMPLE)),
        contexts=write_input(store, records.to_table(contexts.values(), records.CONTEXT), _CONTEXT_ROWS),
        questions=len(shard),
        context_count=len(contexts),
        prompt_tokens=prompt_tokens,
        sample_tokens=sample_tokens,
    )


def write_input(store: Store, table: pa.Table, rows_per_group: int | None = None) -> str:
    """Write a table under the name of its content, unless it is there; returns the path."""
    data = table_bytes(table, rows_per_group=rows_per_group, dictionary=False)
    path = f"inputs/{hashlib.sha256(data).hexdigest()}.parquet"
    if not store.exists(path):
        store.write(path, data)
    return path


def _check_short_prompts(recipe: Recipe) -> None:
    """Raises RecipeError for a pairing rule or a loss that takes answers over a part of the context, and has none."""
    if find_sampler(recipe.sampling.context).short is not no_short_context:
        return
    loss = all_losses().get(recipe.training.loss) if recipe.training is not None else None
    taker = ""
    if find_rule(recipe.pairing.rule).needs_short:
        taker = f"pairing.rule: {recipe.pairing.rule}"
    elif loss is not None and loss.short_reference:
        taker = f"training.loss: {loss.name}"
    if taker:
        raise RecipeError(
            f"{taker} takes answers over the evidence alone, and sampling.context is {recipe.sampling.context}; set it "
            "to evidence"
        )


def _judge_prompt_names(recipe: Recipe) -> list[str]:
    """Names of the prompt files that the recipe's scorers ask the judge with. Raises RecipeError."""
    names: set[str] = set()
    for active in check_scorers(recipe):
        names.update(known_scorers()[active.name].prompts(active.settings, recipe))
    return sorted(names)


def _prompt_fingerprints(strategy: str, languages: Iterable[str], judge_prompts: Iterable[str]) -> dict[str, str]:
    """Fingerprints of the sampling prompt in the languages that occur, and of the judge's prompts in all languages:
    the language of the notes on a chunk is that of the chunk, which may differ from the question's."""
    fingerprints = {}
    for language in sorted(languages):
        prompt = sample_prompt_text(strategy, language)
        fingerprints[f"{prompt.language}/{prompt.name}"] = prompt.fingerprint
    for name in judge_prompts:
        for language in get_args(Language):
            prompt = load_prompt(name, language)
            fingerprints[f"{prompt.language}/{prompt.name}"] = prompt.fingerprint
    return fingerprints


def _article_warnings(pool: Pool) -> list[str]:
    return pool.articles.warnings() if pool.articles is not None else []


def _warnings(recipe: Recipe, tally: _Tally, counts: Mapping[str, int], exact: bool) -> list[str]:
    warnings = []
    if tally.short:
        warnings.append(
            f"{tally.short} contexts are shorter than their target, because the pool has too little text: "
            "give a larger contexts.pool or lower contexts.max_tokens"
        )
    if tally.with_tools:
        warnings.append(
            f"{tally.with_tools} histories have tool calls: they are messages of the policy's chat template, where "
            "plans of earlier versions have them as text; contexts.tools: text makes such a plan"
        )
    if tally.refused_tools:
        warnings.append(
            f"the chat template refuses the tool calls of {tally.refused_tools} histories as messages: they are text"
        )
    warnings += silent_note(tally.silent_turns)
    if tally.with_special_tokens:
        names = sorted(tally.special_tokens)
        listed = ", ".join(names[:_TOKENS_NAMED]) + (", ..." if len(names) > _TOKENS_NAMED else "")
        warnings.append(
            f"{tally.with_special_tokens} questions had special tokens in their text ({listed}): they are broken up in "
            "prompts, so that they stay text"
        )
    if recipe.contexts.build == "given" and counts.get(PROMPT_TOO_LONG):
        warnings.append(
            f"{counts[PROMPT_TOO_LONG]} prompts do not fit policy.context_window ({recipe.policy.context_window}) "
            f"together with sampling.max_tokens ({recipe.sampling.max_tokens})"
        )
    if recipe.training is not None and counts.get(TOO_LONG_TO_TRAIN):
        warnings.append(
            f"{counts[TOO_LONG_TO_TRAIN]} questions are left out, because with their longest answer "
            f"(sampling.max_tokens, {recipe.sampling.max_tokens}) they do not fit training.max_length "
            f"({recipe.training.max_length}): raise it, lower sampling.max_tokens, or set training to null if nothing "
            "is trained on the dataset here"
        )
    if recipe.strong is not None:
        warnings.append(f"the calls to {recipe.strong.name}, one for each question, are not in the estimate")
    if not exact:
        warnings.append("the policy's tokenizer has no chat template: prompt tokens are an estimate")
    note = source_note(recipe.questions.source, recipe.questions.subset, recipe.questions.split)
    if note:
        warnings.append(note)
    return warnings


def typical_drop(counts: Mapping[str, int], drops: Sequence[Drop]) -> str:
    """What the first drop of the most frequent reason says, which is named where there are others in `counts`."""
    reason = max(counts, key=lambda reason: counts[reason])
    first = next(drop for drop in drops if drop.reason == reason)
    return f"The first{f' {reason}' if len(counts) > 1 else ''}: {first.detail}"


def _nothing_left(settings: Questions, counts: Mapping[str, int], drops: Sequence[Drop]) -> str:
    """The message for a source all of whose rows are drops: how many for which reason, the first, and what to do."""
    sentences = [f"{settings.source}: no question is left to plan; dropped: {_listed(counts)}"]
    if drops:
        sentences.append(typical_drop(counts, drops))
    hint = source_hint(settings)
    if counts.get(TOO_LONG_TO_TRAIN):
        sentences.append(
            "Raise training.max_length or lower sampling.max_tokens; with training: null the dataset is built without "
            "being trained on here"
        )
    elif counts.get(NO_ARTICLE):
        sentences.append("Give a contexts.pool that holds these articles, or set contexts.articles to prefer or never")
    elif hint:
        sentences.append(hint)
    elif counts.get("empty_question"):
        sentences.append("Rows without a question get one from questions.fields.template")
    elif counts.get("no_supporting_documents"):
        sentences.append("Rows that bring their whole context need contexts.build: given")
    return ". ".join(sentences)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "none"
