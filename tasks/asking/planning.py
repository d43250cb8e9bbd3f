"""A plan of asking: which question of which kind is to be written about which part of which document.

Documents are read once, in their source's order, into a temporary database. Then every document gets its questions:
their kinds by the recipe's shares, their spans by the kind. A row of the plan is such an intended question: an
`Example` without a text. Its context is what stands in the row of the question, its metadata says what it is written
from. The plan depends on the documents' content alone. Memory holds one shard and the drops.

Drops: what reading says; language, where there are no prompts in it; no_span, where a document is too short for the
kind; no_neighbour, where no other document is like it; and prompt_too_long, which does not fit a model's window.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from infra.canonical import canonical_json, fingerprint, seeded_random, text_id
from infra.errors import InputError
from infra.models.forms.request_form import template_arguments
from infra.models.tokens import Tokenizer, count_tokens, has_chat_template, load_tokenizer, prompt_tokens, rough_tokens
from infra.recipe import Asking, Recipe
from infra.running import progress
from infra.store import Store
from tasks.asking.checks import sections_of
from tasks.asking.corpus import Corpus
from tasks.asking.duplicates import load_hashing
from tasks.asking.kind import QuestionKind, kinds_of
from tasks.asking.spans import Lengths, Part, choose_spans, cut_parts
from tasks.asking.writing import IntendedQuestion, write_prompt
from tasks.contexts.built import BuiltQuestion
from tasks.documents import STAGE, SourceDocument, read_documents
from tasks.documents.histories import HistoryTurn, silent_turns, tools_of_document, turns_of
from tasks.planning.limits import PROMPT_TOO_LONG
from tasks.planning.make_plan import sharded, typical_drop, write_input, write_planned_shard
from tasks.prompts import load_prompt, prompt_names
from tasks.questions.sessions import silent_note
from tasks.records import example as records
from tasks.records.dataset import Split
from tasks.records.example import Context, Drop, Example
from tasks.records.plan import AS_MESSAGES, TOOL_CALLS, Plan, plan_path
from tasks.records.product import HISTORIES, QUESTIONS, ROWS

LANGUAGES = ("en", "zh")  # that there are prompts for
_TEXTS_REMEMBERED = 8
_GAP = "\n\n"  # between the documents of a context
_SHARED_PROMPTS = ("ask-terse", "ask-closed-book", "ask-full-answer", "ask-full-self-contained")  # of all kinds
_SAMPLE_CHARACTERS = 20_000  # of a document, by which its characters to a token are known

Row = tuple[int, int, QuestionKind]  # number of the document, number of the question, kind


def make_asking_plan(recipe: Recipe, store: Store) -> Plan:
    """Read every document, choose what to ask, write the shards and the plan. No call is made.

    Raises InputError when the documents cannot be read or give no question, RecipeError for an unknown kind, and
    PrerequisiteError for a library or a tokenizer that is missing.
    """
    asking = _asking_of(recipe)
    kinds = kinds_of(asking.kinds)
    load_hashing()
    tokenizer = load_tokenizer(recipe.policy.tokenizer, recipe.policy.trust_remote_code)
    corpus = Corpus(with_terms=any(kind.source == "documents" for kind, _ in kinds))
    drops: list[Drop] = []
    try:
        _read(recipe, corpus, drops)
        planner = _Planner(recipe, corpus, tokenizer, kinds, drops)
        shards = []
        for index, shard in enumerate(sharded(planner.questions(), recipe.execution.shard_size)):
            shards.append(write_planned_shard(store, index, shard))
    finally:
        corpus.close()
    planned = sum(shard.questions for shard in shards)
    counts = dict(sorted(Counter(drop.reason for drop in drops).items()))
    if not planned:
        first = f" {typical_drop(counts, drops)}" if drops else ""
        listed = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "none"
        assert recipe.documents is not None
        raise InputError(f"{recipe.documents.source}: there is nothing to ask about; dropped: {listed}.{first}")
    content = {
        "recipe": recipe.identity(),
        "prompts": _prompt_fingerprints(kinds),
        "shards": [shard.to_json() for shard in shards],
        "questions": planned + len(drops),
        "drops": write_input(store, records.to_table(drops, records.DROP)),
        "drop_counts": counts,
        "exact_prompt_tokens": has_chat_template(tokenizer),
        "warnings": planner.warnings(),
        "makes": QUESTIONS.name,
    }
    if planner.histories:
        content["rules"] = {ROWS: HISTORIES, **({TOOL_CALLS: AS_MESSAGES} if planner.tool_calls else {})}
    plan = Plan.from_json({"plan_id": fingerprint(content)[:16], **content})
    store.put_if_absent(plan_path(plan.plan_id), canonical_json(plan.to_json()))
    return plan


def _asking_of(recipe: Recipe) -> Asking:
    assert recipe.asking is not None
    return recipe.asking


def _read(recipe: Recipe, corpus: Corpus, drops: list[Drop]) -> None:
    """Put the documents of a recipe into the corpus; what cannot be used is a drop."""
    assert recipe.documents is not None
    split = Split(recipe.seed, recipe.dataset.test_fraction)
    for document in read_documents(recipe.documents):
        progress.advance("documents")
        if isinstance(document, Drop):
            drops.append(document)
        elif document.language not in LANGUAGES:
            detail = f"{document.title}: {document.language!r} is neither en nor zh"
            drops.append(Drop(document.source, STAGE, "language", detail))
        else:
            corpus.add(document, split.side(document.document_id))
    corpus.settle()


class _Planner:
    """Chooses what to ask about each document."""

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        tokenizer: Tokenizer,
        kinds: Sequence[tuple[QuestionKind, float]],
        drops: list[Drop],
    ) -> None:
        self._recipe = recipe
        self._asking = _asking_of(recipe)
        self._corpus = corpus
        self._tokenizer = tokenizer
        self._kinds = kinds
        self._drops = drops
        self._parts: Counter[str] = Counter()
        self._tokens: dict[str, int] = {}
        self._silent_turns: list[int] = []  # of each document
        self.histories = False  # whether a document is one
        self.tool_calls = False  # whether a turn of one calls a tool, or is a result, and stays a message
        self._longest_prompt = longest_prompt(recipe)

    def questions(self) -> Iterator[BuiltQuestion]:
        """The intended questions, those of a document together and of each part of it."""
        for number, document in self._corpus.documents():
            built: list[BuiltQuestion] = []
            turns = turns_of(document)
            self.histories |= bool(turns)
            self._silent_turns.append(silent_turns(document))
            kinds = fitting_kinds(self._kinds, bool(turns))
            if not kinds:
                detail = (
                    f"{document.title}: every kind of asking.kinds is for histories alone, and it is none; add another "
                    "kind, as single_fact"
                )
                self._drops.append(Drop(document.document_id[:16], "context", "no_span", detail))
                continue
            for question, kind in enumerate(draw_kinds(self._asking, kinds, self._recipe.seed, document)):
                outcome = self._intended(number, document, question, kind)
                if isinstance(outcome, Drop):
                    self._drops.append(outcome)
                else:
                    built.append(outcome)
            progress.advance("plan", len(built))
            yield from sorted(built, key=lambda question: question.context.span_starts)

    def warnings(self) -> list[str]:
        """What a plan says about its documents."""
        warnings = silent_note(self._silent_turns)
        if self._parts:
            warnings.append(
                f"{len(self._parts)} documents are longer than asking.document_tokens "
                f"({self._asking.document_tokens}): each stands in the rows of its questions as the part that they are "
                "about"
            )
        return warnings

    def _intended(
        self, number: int, document: SourceDocument, question: int, kind: QuestionKind
    ) -> BuiltQuestion | Drop:
        seed = self._recipe.seed
        name = f"{document.document_id[:16]}-{question}"
        documents = [document]
        if kind.source == "documents":
            neighbour = self._corpus.neighbour(number)
            if neighbour is None:
                detail = f"{document.title}: no document of its language and split is like it"
                return Drop(name, "context", "no_neighbour", detail)
            documents.append(self._corpus.document(neighbour))
        texts: list[str] = []
        sources: list[dict[str, Any]] = []
        spans: list[tuple[int, int, int]] = []
        for place, source in enumerate(documents):
            rng = seeded_random(seed, "span", document.document_id, question, place)
            lengths = Lengths.of(self._asking, self._characters_per_token(source.text))
            turns = turns_of(source)
            parts = cut_parts(source.text, lengths.part, [(turn.heading, turn.end) for turn in turns])
            part = parts[rng.randrange(len(parts))]
            if len(parts) > 1:
                self._parts[source.document_id] += 1
            text = source.text[part[0] : part[1]]
            own_turns = [turn for turn in turns if part[0] <= turn.start and turn.end <= part[1]]
            pieces = [(turn.heading - part[0], turn.end - part[0]) for turn in own_turns]
            chosen = choose_spans(text, kind.source, lengths, rng, pieces)
            if not chosen:
                return Drop(name, "context", "no_span", f"{source.title}: too short for a question of kind {kind.name}")
            texts.append(text)
            with_tools = self._recipe.contexts.tools == "auto" and any(turn.tool_use for turn in own_turns)
            self.tool_calls |= with_tools
            sources.append(_source(source, part, own_turns, with_tools=with_tools))
            spans.extend((place, start, end) for start, end in chosen)
        return self._built(kind, document.language, texts, sources, spans, question)

    def _built(
        self,
        kind: QuestionKind,
        language: str,
        texts: Sequence[str],
        sources: Sequence[Mapping[str, Any]],
        spans: Sequence[tuple[int, int, int]],
        number: int,
    ) -> BuiltQuestion | Drop:
        starts, ends, place = [], [], 0
        for text in texts:
            starts.append(place)
            ends.append(place + len(text))
            place += len(text) + len(_GAP)
        whole = _GAP.join(texts)
        tokens = self._count(whole)
        titles = tuple(str(source["title"]) for source in sources)
        context = Context(text_id(whole), whole, tokens, tuple(starts), tuple(ends), titles)
        ids = [source["document_id"] for source in sources]
        example_id = fingerprint([ids, [source["start"] for source in sources], spans, kind.name, number])[:16]
        metadata = canonical_json({"documents": list(sources), "spans": [list(span) for span in spans]}).decode()
        example = Example(example_id, "", context.context_id, (), kind.name, language, metadata)
        prompts = self._recipe.judge.prompts if self._recipe.judge else "full"
        prompt = write_prompt(IntendedQuestion.of(example, context), prompts)
        arguments = template_arguments(self._recipe.policy)
        (prompt_count,) = prompt_tokens(self._tokenizer, [prompt.messages], (), arguments)
        if prompt_count > self._longest_prompt:
            detail = (
                f"the prompt has {prompt_count} tokens, and {self._longest_prompt} fit the windows of the models that "
                "write and answer, beside their longest reply"
            )
            return Drop(example_id, "context", PROMPT_TOO_LONG, detail)
        return BuiltQuestion(example, context, prompt_count)

    def _count(self, text: str) -> int:
        """Tokens of a text; the questions about a document share it, so the last few are remembered."""
        if text not in self._tokens:
            if len(self._tokens) >= _TEXTS_REMEMBERED:
                self._tokens.clear()
            (self._tokens[text],) = count_tokens(self._tokenizer, [text])
        return self._tokens[text]

    def _characters_per_token(self, text: str) -> float:
        sample = text[:_SAMPLE_CHARACTERS]
        return len(sample) / max(1, rough_tokens(self._tokenizer, [sample])[0])


def longest_prompt(recipe: Recipe) -> int:
    """Tokens of the longest prompt that writes a question. One that answers it holds the same passages."""
    asking = _asking_of(recipe)
    models = recipe.models()
    writer, answerer = sections_of(recipe)
    rooms = [models[writer].context_window - asking.max_tokens]
    for section in ("policy", answerer):
        rooms.append(models[section].context_window - asking.answer_tokens)
    return min(rooms)


def draw_kinds(
    asking: Asking, kinds: Sequence[tuple[QuestionKind, float]], seed: int, document: SourceDocument
) -> list[QuestionKind]:
    """The kinds of the questions about a document: spread over the shares at even distances, from a drawn start."""
    rng = seeded_random(seed, "kinds", document.document_id)
    start = rng.random()
    drawn = []
    for number in range(asking.per_document):
        place = (start + number / asking.per_document) % 1
        drawn.append(_kind_at(place, kinds))
    return drawn


def _kind_at(place: float, kinds: Sequence[tuple[QuestionKind, float]]) -> QuestionKind:
    """The kind at a place in [0, 1), when the shares lie one after another."""
    for kind, share in kinds:
        place -= share
        if place < 0:
            return kind
    return kinds[-1][0]


def fitting_kinds(
    kinds: Sequence[tuple[QuestionKind, float]], is_history: bool
) -> Sequence[tuple[QuestionKind, float]]:
    """The kinds that may be asked about a document, with their shares of the whole."""
    fitting = [(kind, share) for kind, share in kinds if is_history or not kind.histories]
    if len(fitting) == len(kinds):
        return kinds
    whole = sum(share for _, share in fitting)
    return [(kind, share / whole) for kind, share in fitting]


def _source(document: SourceDocument, part: Part, turns: Sequence[HistoryTurn], *, with_tools: bool) -> dict[str, Any]:
    """A document of a row, as its metadata says it. `with_tools`: its tool calls are published as messages."""
    source: dict[str, Any] = {"document_id": document.document_id, "title": document.title, "start": part[0]}
    page = document.page_at(part[0])
    if page is not None:
        source["page"] = page
        source["page_starts"] = [start - part[0] for start in document.page_starts if part[0] < start < part[1]]
    if turns:
        source["turns"] = []
        for turn in turns:
            own = asdict(turn) | {name: getattr(turn, name) - part[0] for name in ("heading", "start", "end")}
            if not (with_tools and turn.tool_use):
                del own["tool_use"]
            source["turns"].append(own)
    if with_tools and (tools := tools_of_document(document)):
        source["tools"] = list(tools)
    return source


def _prompt_fingerprints(kinds: Sequence[tuple[QuestionKind, float]]) -> dict[str, str]:
    """Fingerprints of the prompts that questions are written and checked with."""
    of_kinds = {f"ask-full-{kind.prompt}" for kind, _ in kinds}
    fingerprints = {}
    for language in LANGUAGES:
        for name in prompt_names(language):
            if name in of_kinds or name.startswith(_SHARED_PROMPTS):
                fingerprints[f"{language}/{name}"] = load_prompt(name, language).fingerprint
    return fingerprints
