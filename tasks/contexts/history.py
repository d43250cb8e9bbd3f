"""`history`: chat messages that stay messages: dialogues over many sessions, trajectories of agents.

The context is the row's sessions in their order. With the option `fill` sessions of other rows are put between them up
to a drawn length, as LongMemEval builds its histories; such a session has the date of the own one before it. Where the
prompt is too long, whole turns in the middle are left out, never those of sessions that the answer needs; the next turn
says how many. Tool calls and results stay messages too where the policy's chat template has a place for them
(contexts.tools), and a call is never parted from its results. A context's text is the messages' canonical form
(tasks/records/history.py).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from pydantic import Field

from infra.canonical import seeded_random
from infra.errors import LongmillError
from infra.models.forms.request_form import template_arguments
from infra.models.tokens import Tokenizer, load_tokenizer, render_prompt, renders_tool_calls, rough_tokens
from infra.models.tool_calls import json_text
from infra.recipe import Questions, Recipe, RecipeSection
from tasks.contexts import ContextBuilder, Outcomes
from tasks.contexts.built import Inputs, built_question, count_contexts, example_of, own_tokens, target_tokens
from tasks.planning.distractors import NO_POOL, Pool, draw, sample_documents
from tasks.planning.passages import Passages
from tasks.questions import RawQuestion, read_questions
from tasks.questions.chat import ChatTurn, chat_text, chat_turns, join_messages, message_text, tools_of, without_ids
from tasks.questions.question import Session
from tasks.questions.sessions import session_text, turn_text
from tasks.records.example import Context, Document, Drop
from tasks.sample_prompt import sample_prompt

_MISSES = 8  # after so many sessions that are too long for the rest of the target, the rest stays empty
# How a history has its tool calls: as messages, as messages with ids that are written anew (some templates take no
# others), or as text.
ToolForm = Literal["messages", "new_ids", "text"]
_NEXT_FORM: dict[ToolForm, ToolForm] = {"messages": "new_ids", "new_ids": "text"}  # where the template refuses one


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
    tools: ToolForm
    fillers: tuple[_Filler, ...] = ()
    target: int | None = None
    cut: frozenset[int] = frozenset()
    short: bool = False
    refused: bool = False  # the chat template has refused its tool calls


@dataclass(frozen=True, slots=True)
class _DraftTurn:
    """A turn of a draft. `unit`: the numbers of the turns that are cut with it."""

    turn: ChatTurn
    time: str  # of its session
    supports: bool  # the answer needs its session
    unit: range


def keeps_tool_calls(recipe: Recipe, tokenizer: Tokenizer) -> bool:
    """Whether tool calls of histories stay messages: the templates of all models that answer have a place for them.

    `tokenizer` is the policy's. Of a stronger model whose tokenizer is not at hand it is taken to be so.
    """
    if recipe.contexts.tools == "text" or not renders_tool_calls(tokenizer, template_arguments(recipe.policy)):
        return False
    strong = recipe.strong
    return strong is None or _strong_renders(strong.tokenizer, strong.trust_remote_code, json_text(strong.parameters))


@cache
def _strong_renders(name: str, trust_remote_code: bool, parameters: str) -> bool:
    """Whether the template of the stronger model has a place for tool calls; `parameters` are its, as JSON."""
    try:
        tokenizer = load_tokenizer(name, trust_remote_code)
    except LongmillError:
        return True
    return renders_tool_calls(tokenizer, json.loads(parameters).get("chat_template_kwargs") or {})


def build_history(questions: Sequence[RawQuestion], inputs: Inputs) -> Outcomes:
    """The outcomes of questions over chat messages."""
    own = own_tokens(inputs.recipe, inputs.tokenizer)
    outcomes: Outcomes = {}
    tools: ToolForm = "messages" if keeps_tool_calls(inputs.recipe, inputs.tokenizer) else "text"
    drafts = [_draft(question, inputs, tools) for question in questions]
    while drafts:
        accepted = [_accepted(draft, inputs) for draft in drafts]
        arranged = [(draft.question, passages) for draft, passages in accepted]
        to_shorten = []
        for (draft, _), (context, prompt) in zip(accepted, count_contexts(arranged, inputs), strict=True):
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
                silent = sum(session.silent for session in draft.question.sessions)
                outcomes[draft.question.example_id] = replace(built, refused_tools=draft.refused, silent_turns=silent)
        drafts = to_shorten
    return outcomes


def _accepted(draft: _Draft, inputs: Inputs) -> tuple[_Draft, Passages]:
    """The draft with its tool calls in the first form that the chat template takes, and its text.

    As text it may refuse them still, which is an error where prompts are counted.
    """
    from jinja2 import TemplateError

    recipe = inputs.recipe
    passages = _passages(draft)
    while passages.tool_use is not None:
        spans = passages.starts, passages.ends, passages.titles
        context = Context("", passages.text, 0, *spans, passages.roles, passages.tool_use)
        prompt = sample_prompt(example_of(draft.question, ""), context, recipe.sampling.strategy, recipe.policy)
        try:
            render_prompt(prompt.messages, inputs.tokenizer, template_arguments(recipe.policy), prompt.tools)
            break
        except TemplateError:
            tools = _NEXT_FORM[draft.tools]
            draft = replace(draft, tools=tools, refused=tools == "text", cut=frozenset())
            passages = _passages(draft)
    return draft, passages


def _draft(question: RawQuestion, inputs: Inputs, tools: ToolForm) -> _Draft:
    """The row's own sessions; with `fill` also sessions of the pool until the next would pass the target."""
    options: HistoryOptions = inputs.options
    if not options.fill:
        return _Draft(question, tools)
    target = target_tokens(inputs.recipe.contexts, inputs.recipe.seed, question.example_id)
    target = min(target, inputs.limits.prompt)
    texts = [session_text(session, question.language) for session in question.sessions]
    left = target - sum(rough_tokens(inputs.tokenizer, texts))
    rng = seeded_random(inputs.recipe.seed, "sessions", question.example_id)
    fillers: list[_Filler] = []
    misses = 0
    for index in draw(len(inputs.pool.documents), rng):
        session = Session.from_json(json.loads(inputs.pool.documents[index].text))
        tokens = inputs.pool.tokens[index]
        if session_text(session, question.language) in texts:
            continue
        if tokens <= left:
            fillers.append(_Filler(session, tokens, rng.randint(0, len(question.sessions))))
            left -= tokens
            continue
        misses += 1
        if misses == _MISSES:
            break
    short = misses < _MISSES and left > inputs.recipe.contexts.step_tokens
    return _Draft(question, tools, tuple(fillers), target, short=short)


def _sessions(draft: _Draft) -> Iterator[Session]:
    """All sessions in their order; one of another row has the date of the own one before it, or of the first."""
    own = draft.question.sessions
    for place in range(len(own) + 1):
        for filler in draft.fillers:
            if filler.place == place:
                yield replace(filler.session, time=own[max(0, place - 1)].time, supports=False)
        if place < len(own):
            yield own[place]


def _turns(draft: _Draft) -> list[_DraftTurn]:
    """All turns, those left out too."""
    turns: list[_DraftTurn] = []
    for session in _sessions(draft):
        of_session = chat_turns(session, draft.question.language, with_tools=draft.tools != "text")
        first = len(turns)
        for place, turn in enumerate(of_session):
            unit = range(place, place + 1)
            if turn.exchange is not None:
                places = [other for other, own in enumerate(of_session) if own.exchange == turn.exchange]
                unit = range(places[0], places[-1] + 1)
            numbers = range(first + unit.start, first + unit.stop)
            turns.append(_DraftTurn(turn, session.time, session.supports, numbers))
    return turns


def _passages(draft: _Draft) -> Passages:
    """The messages, the user's and the model's by turns, as the canonical text with its spans."""
    language = draft.question.language
    messages: list[dict[str, Any]] = []
    times: list[str] = []
    left_out = 0
    for number, turn in enumerate(_turns(draft)):
        if number in draft.cut:
            left_out += 1
            continue
        message = turn.turn.message
        if left_out:
            text = turn_text("cut", language, count=str(left_out), text=message["content"]).rstrip("\n")
            message = {**message, "content": text}
            left_out = 0
        messages.append(without_ids(message) if draft.tools == "new_ids" else message)
        times.append(turn.time)
    joined, places = join_messages(messages, language)
    chat = chat_text(joined, language, tools_of(_sessions(draft)))
    titles = tuple(times[place] for place in places)
    return Passages(chat.text, chat.starts, chat.ends, titles, chat.roles, chat.tool_use)


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
    sizes = rough_tokens(tokenizer, [message_text(turn.turn.message, draft.question.language) for turn in turns])
    cut = set(draft.cut)
    middle = (len(turns) - 1) / 2
    for number in sorted(range(len(turns)), key=lambda number: (abs(number - middle), number)):
        unit = turns[number].unit
        has_edge = unit.start == 0 or unit.stop == len(turns)
        if excess <= 0:
            break
        if number not in cut and not turns[number].supports and not has_edge:
            cut.update(unit)
            excess -= sum(max(1, sizes[member]) for member in unit)
    return None if cut == draft.cut else replace(draft, cut=frozenset(cut))


def gather_sessions(recipe: Recipe, questions: Questions) -> Pool:
    """The sessions of all rows that no answer of their row needs, as JSON; none where histories are not filled."""
    if not HistoryOptions.model_validate(recipe.contexts.options).fill:
        return NO_POOL
    # The digest of the text orders the pool: where tool calls are text, it is that of earlier plans.
    tokenizer = load_tokenizer(recipe.policy.tokenizer, recipe.policy.trust_remote_code)
    with_tools = keeps_tool_calls(recipe, tokenizer)

    def sessions() -> Iterator[Document]:
        for outcome in read_questions(questions.model_copy(update={"limit": None}), "history"):
            if isinstance(outcome, Drop):
                continue
            for session in outcome.sessions:
                if not session.supports:
                    values = replace(session, turns=tuple(session.spoken)).to_json(with_tools=with_tools)
                    yield Document("", json.dumps(values, ensure_ascii=False, sort_keys=True))

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
