"""`history`: chat messages that stay messages: dialogues over many sessions, trajectories of agents.

The context is the row's sessions in their order. With the option `fill` sessions of other rows are put between them up
to a drawn length, as LongMemEval builds its histories; such a session has the date of the own one before it. Where the
prompt is too long, whole turns in the middle are left out, never those of sessions that the answer needs; the next turn
says how many. A context's text is the messages' canonical form (tasks/records/history.py).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from pydantic import Field

from infra.canonical import seeded_random
from infra.models.tokens import Tokenizer, rough_tokens
from infra.recipe import Questions, Recipe, RecipeSection
from tasks.contexts import ContextBuilder, Outcomes
from tasks.contexts.built import Inputs, built_question, count_contexts, own_tokens, target_tokens
from tasks.planning.distractors import NO_POOL, Pool, draw, sample_documents
from tasks.planning.passages import Passages
from tasks.questions import RawQuestion, read_questions
from tasks.questions.question import Session, Turn
from tasks.questions.sessions import flat_turns, session_text, turn_text
from tasks.records.example import Document, Drop
from tasks.records.history import history_text

_MISSES = 8  # after so many sessions that are too long for the rest of the target, the rest stays empty


class HistoryOptions(RecipeSection):
    """Keys of `contexts.options`."""

    fill: bool = Field(False, description="put sessions of other rows between, up to a length as of pooled contexts")


@dataclass(frozen=True, slots=True)
class _Filler:
    """A session of another row: about its tokens, and the place among the own sessions before which it stands."""

    session: Session
    tokens: int
    place: int


@dataclass(frozen=True, slots=True)
class _Draft:
    """A history that is made to fit. `cut`: numbers of the turns that are left out; `target`: tokens to fill up to."""

    question: RawQuestion
    fillers: tuple[_Filler, ...] = ()
    target: int | None = None
    cut: frozenset[int] = frozenset()
    short: bool = False


def build_history(questions: Sequence[RawQuestion], inputs: Inputs) -> Outcomes:
    """The outcomes of questions over chat messages."""
    own = own_tokens(inputs.recipe, inputs.tokenizer)
    outcomes: Outcomes = {}
    drafts = [_draft(question, inputs) for question in questions]
    while drafts:
        arranged = [(draft.question, _passages(draft)) for draft in drafts]
        to_shorten = []
        for draft, (context, prompt) in zip(drafts, count_contexts(arranged, inputs), strict=True):
            excess = prompt - inputs.limits.prompt
            if draft.fillers and draft.target is not None:
                excess = max(excess, context.tokens - draft.target)
            shorter = _shortened(draft, excess, inputs.tokenizer) if excess > 0 else None
            if shorter is not None:
                to_shorten.append(shorter)
            elif prompt > inputs.limits.prompt:
                outcomes[draft.question.example_id] = inputs.limits.drop(draft.question.example_id, prompt)
            else:
                built = built_question(draft.question, context, prompt, draft.short, own)
                outcomes[draft.question.example_id] = built
        drafts = to_shorten
    return outcomes


def _draft(question: RawQuestion, inputs: Inputs) -> _Draft:
    """The row's own sessions; with `fill` also sessions of the pool until the next would pass the target."""
    options: HistoryOptions = inputs.options
    if not options.fill:
        return _Draft(question)
    target = target_tokens(inputs.recipe.contexts, inputs.recipe.seed, question.example_id)
    target = min(target, inputs.limits.prompt)
    texts = [session_text(session) for session in question.sessions]
    left = target - sum(rough_tokens(inputs.tokenizer, texts))
    rng = seeded_random(inputs.recipe.seed, "sessions", question.example_id)
    fillers: list[_Filler] = []
    misses = 0
    for index in draw(len(inputs.pool.documents), rng):
        session = Session.from_json(json.loads(inputs.pool.documents[index].text))
        tokens = inputs.pool.tokens[index]
        if session_text(session) in texts:
            continue
        if tokens <= left:
            fillers.append(_Filler(session, tokens, rng.randint(0, len(question.sessions))))
            left -= tokens
            continue
        misses += 1
        if misses == _MISSES:
            break
    short = misses < _MISSES and left > inputs.recipe.contexts.step_tokens
    return _Draft(question, tuple(fillers), target, short=short)


def _sessions(draft: _Draft) -> Iterator[Session]:
    """All sessions in their order; one of another row has the date of the own one before it, or of the first."""
    own = draft.question.sessions
    for place in range(len(own) + 1):
        for filler in draft.fillers:
            if filler.place == place:
                yield replace(filler.session, time=own[max(0, place - 1)].time, supports=False)
        if place < len(own):
            yield own[place]


def _turns(draft: _Draft) -> list[tuple[Turn, str, bool]]:
    """(turn, the date of its session, whether the answer needs that session) of all turns, those left out too."""
    turns = []
    for session in _sessions(draft):
        for turn in flat_turns(session, draft.question.language):
            turns.append((turn, session.time, session.supports))
    return turns


def _passages(draft: _Draft) -> Passages:
    """The messages, the user's and the model's by turns, as the canonical text with its spans."""
    language = draft.question.language
    messages: list[dict[str, str]] = []
    titles: list[str] = []
    left_out = 0
    for number, (turn, time, _) in enumerate(_turns(draft)):
        if number in draft.cut:
            left_out += 1
            continue
        text = turn.text
        if left_out:
            text = turn_text("cut", language, count=str(left_out), text=text)
            left_out = 0
        if not messages and turn.role == "assistant":
            messages.append({"role": "user", "content": turn_text("begins", language)})
            titles.append(time)
        if messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"] += f"\n\n{text}"
            continue
        messages.append({"role": turn.role, "content": text})
        titles.append(time)
    text, starts, ends = history_text(messages)
    return Passages(text, starts, ends, tuple(titles), tuple(message["role"] for message in messages))


def _shortened(draft: _Draft, excess: int, tokenizer: Tokenizer) -> _Draft | None:
    """The draft without about `excess` tokens; None where nothing more may be left out.

    The last sessions of other rows go first, then turns from the middle outwards.
    """
    if draft.fillers:
        fillers = list(draft.fillers)
        while fillers and excess > 0:
            excess -= fillers.pop().tokens
        return replace(draft, fillers=tuple(fillers))
    turns = _turns(draft)
    sizes = rough_tokens(tokenizer, [turn.text for turn, _, _ in turns])
    cut = set(draft.cut)
    middle = (len(turns) - 1) / 2
    for number in sorted(range(len(turns)), key=lambda number: (abs(number - middle), number)):
        is_edge = number in (0, len(turns) - 1)
        if excess <= 0:
            break
        if number not in cut and not turns[number][2] and not is_edge:
            cut.add(number)
            excess -= max(1, sizes[number])
    return None if cut == draft.cut else replace(draft, cut=frozenset(cut))


def gather_sessions(recipe: Recipe, questions: Questions) -> Pool:
    """The sessions of all rows that no answer of their row needs, as JSON; none where histories are not filled."""
    if not HistoryOptions.model_validate(recipe.contexts.options).fill:
        return NO_POOL

    def sessions() -> Iterator[Document]:
        for outcome in read_questions(questions.model_copy(update={"limit": None}), "history"):
            if isinstance(outcome, Drop):
                continue
            for session in outcome.sessions:
                if not session.supports:
                    yield Document("", json.dumps(asdict(session), ensure_ascii=False, sort_keys=True))

    sample, warnings = sample_documents(sessions(), recipe.seed)
    return Pool(tuple(sample), (), tuple(warnings))


def session_sizes(documents: Sequence[Document], recipe: Recipe, tokenizer: Tokenizer) -> list[int]:
    """About how many tokens the messages of each session take."""
    sessions = [Session.from_json(json.loads(document.text)) for document in documents]
    return rough_tokens(tokenizer, list(map(session_text, sessions)))


BUILDER = ContextBuilder(
    "history",
    build_history,
    "chat messages, which stay messages in the prompt",
    reads="history",
    gather=gather_sessions,
    sizes=session_sizes,
    options=HistoryOptions,
)
