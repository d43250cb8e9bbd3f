"""Verdicts by entailment: a small classifier reads passages and a statement, and gives one number for its support.

It takes the place of the judge where it is sure. The number is a log-odds; a calibration (`calibration.py`), made on
verdicts that the judge has given, turns it into a probability and that into one of the judge's three verdicts. Where
the probability is too near to a threshold there is no verdict, and the judge is asked as without a verifier.

Passages that do not fit the model's window are read in windows that overlap by a quarter, and the best one counts. A
local model runs in batches; its numbers are recorded in the ledger, so that a second run computes none of them. Behind
an endpoint each window is a call like any other. Texts are quoted as in a judge's prompt, so that no document can end
its part of the input. What cannot be read (a statement as long as the window) has no number; then the judge is
asked.
"""

import json
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from infra.canonical import fingerprint, text_id
from infra.errors import RecipeError
from infra.models.client import Prompt
from infra.models.embedding.windows import TokenMeter
from infra.models.protocol import TEXT, LedgerLike
from infra.models.recorded import model_files, record_computed
from infra.models.scores import Route, read_scores
from infra.models.special_tokens import break_special_tokens, special_tokens_of
from infra.models.tokens import load_tokenizer, resolve_model
from tasks.judging.calibration import Calibration
from tasks.judging.classifier import Classifier, check_classifier, open_classifier
from tasks.judging.classifier_endpoint import PARAMETERS, find_route
from tasks.judging.classifier_input import TokenRow
from tasks.judging.context import ScoringContext
from tasks.judging.quoting import quoted
from tasks.judging.replies import Unusable
from tasks.judging.steps import Job, JudgeQuery, Step, ask, compute
from tasks.judging.verifier_settings import KEY, PASSAGES, STATEMENT, VERIFIER, VERIFY, VerifierSettings

_LOCAL_KIND = "local_verifier"
_SPARE = 16  # tokens of a window that stay free: a part of a text may have more tokens than it had inside the text
_LEAST_ROOM = 32  # tokens for passages, beside the statement
_OVERLAP = 4  # a window shares this part of its tokens with the one before it
_PROBE = ("The tower was built in 1911.", "The tower is older than 1950.")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and the passages that it is checked against; the other fields are those of a call about it."""

    passages: str
    text: str
    example_id: str = ""
    context_id: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class SupportNumber:
    """The log-odds that a statement is supported; None where there is none. `keys`: of ledger entries of its calls."""

    logit: float | None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verified:
    """What the verifier says of a statement. `support` is None where the judge has to be asked."""

    support: float | None
    probability: float | None
    keys: tuple[str, ...] = ()


def verify(
    statements: Sequence[Sequence[Statement]],
    settings: VerifierSettings,
    calibration: Calibration,
    scoring: ScoringContext,
) -> Generator[Step, Any, list[list[Verified]]]:
    """What the verifier says of the statements of each question, in order."""
    numbers_by_question = yield from support_numbers(statements, settings, scoring)
    verified = []
    for numbers in numbers_by_question:
        verified.append([_verified(number, settings, calibration) for number in numbers])
    return verified


def support_numbers(
    statements: Sequence[Sequence[Statement]], settings: VerifierSettings, scoring: ScoringContext
) -> Generator[Step, Any, list[list[SupportNumber]]]:
    """The number of each statement of each question, in order."""
    if settings.endpoint is not None:
        return (yield from _ask_endpoint(statements, settings, scoring))
    jobs = []
    for of_question in statements:
        jobs.append(_job(of_question, settings, scoring.ledger))
    values = yield from compute(VERIFY, jobs)
    return [[SupportNumber(value) for value in of_question] for of_question in values]


def check_verifier(settings: VerifierSettings) -> None:
    """Raise RecipeError or PrerequisiteError when the model is not there; its weights are not read."""
    check_classifier(settings, KEY, settings.trust_remote_code)


def _verified(number: SupportNumber, settings: VerifierSettings, calibration: Calibration) -> Verified:
    if number.logit is None:
        return Verified(None, None, number.keys)
    probability = calibration.probability(number.logit)
    near = calibration.distance(probability) < settings.ask_judge_within
    return Verified(None if near else calibration.support(probability), probability, number.keys)


def _job(statements: Sequence[Statement], settings: VerifierSettings, ledger: LedgerLike | None) -> Job[list[Any]]:
    """The numbers of a question's statements: a number or null each."""
    texts = [[text_id(statement.passages), statement.text] for statement in statements]
    example_id = statements[0].example_id if statements else ""
    return Job(
        lambda: local_numbers(statements, settings, ledger), [settings.identity(), texts], len(statements), example_id
    )


def local_numbers(
    statements: Sequence[Statement], settings: VerifierSettings, ledger: LedgerLike | None = None
) -> list[float | None]:
    """The number of each statement by a model that is loaded here, if the ledger does not have them all."""
    identity = {"kind": _LOCAL_KIND, "files": model_files(resolve_model(settings.model)), **settings.identity()}
    keys = []
    for statement in statements:
        keys.append(fingerprint({**identity, "passages": text_id(statement.passages), "statement": statement.text}))
    logits: dict[str, float | None] = {}
    if ledger is not None:
        for key, entry in ledger.lookup(keys).items():
            logits[key] = json.loads(entry.reply)["logit"]
    missing = {key: statement for key, statement in zip(keys, statements, strict=True) if key not in logits}
    if missing:
        start = time.monotonic()
        new = dict(zip(missing, _computed(list(missing.values()), settings), strict=True))
        if ledger is not None:
            replies = {key: {"logit": logit} for key, logit in new.items()}
            record_computed(ledger, _LOCAL_KIND, settings.model, settings.revision, replies, time.monotonic() - start)
        logits |= new
    return [logits[key] for key in keys]


def _computed(statements: Sequence[Statement], settings: VerifierSettings) -> list[float | None]:
    model = _open(settings)
    rows: list[TokenRow] = []
    places = []  # of each statement among the rows
    for statement in statements:
        of_statement = _rows(model, statement, settings)
        places.append(range(len(rows), len(rows) + len(of_statement)))
        rows += of_statement
    distinct = sorted(set(rows))
    logits = dict(zip(distinct, model.logits(distinct, settings.batch), strict=True))
    numbers = []
    for of_windows in places:
        support = [settings.support_logit(logits[rows[place]], model.labels) for place in of_windows]
        numbers.append(_best(support))
    return numbers


def _best(numbers: Sequence[float | None]) -> float | None:
    """The highest number of a statement's windows; None where there is no window, or a number is missing."""
    values = [number for number in numbers if number is not None]
    return max(values) if values and len(values) == len(numbers) else None


def _open(settings: VerifierSettings) -> Classifier:
    model = open_classifier(settings, KEY, settings.trust_remote_code)
    if model.missing:
        raise RecipeError(
            f"{KEY}.model: {settings.model!r} has no trained weights for {', '.join(model.missing)}; take a sequence "
            "classifier that was trained for entailment or factual consistency"
        )
    if len(model.labels) > 1:
        settings.label_values(model.labels)
    return model


def _rows(model: Classifier, statement: Statement, settings: VerifierSettings) -> list[TokenRow]:
    """The inputs for a statement, one for each window of its passages; none where the statement is too long."""
    limit = int(min(settings.max_tokens, model.window))
    passages, text = (model.encoder.plain(quoted(part)) for part in (statement.passages, statement.text))
    whole = _row(model, passages, text, settings)
    if len(whole.ids) <= limit:
        return [whole]
    room = limit - len(_row(model, "", text, settings).ids) - _SPARE
    rows = []
    for part in overlapping_windows(passages, model.meter, room):
        row = _row(model, part, text, settings)
        if len(row.ids) > limit:
            return []
        rows.append(row)
    return rows


def _row(model: Classifier, passages: str, statement: str, settings: VerifierSettings) -> TokenRow:
    if settings.template is None:
        return model.encoder.row(passages, statement)
    return model.encoder.row(_filled(settings.template, passages, statement))


def _filled(template: str, passages: str, statement: str) -> str:
    before, _, after = template.partition(PASSAGES)
    return before.replace(STATEMENT, statement) + passages + after.replace(STATEMENT, statement)


def overlapping_windows(text: str, meter: TokenMeter, room: int) -> list[str]:
    """The text in windows of at most `room` tokens, each with a quarter of the one before; none without room."""
    if room < _LEAST_ROOM:
        return []
    ((starts, _),) = meter.starts([text])
    step = room - room // _OVERLAP
    windows = []
    for first in range(0, max(1, len(starts) - room + step), step):
        end = int(starts[first + room]) if first + room < len(starts) else len(text)
        windows.append(text[int(starts[first]) if first else 0 : end])
    return windows


def _ask_endpoint(
    statements: Sequence[Sequence[Statement]], settings: VerifierSettings, scoring: ScoringContext
) -> Generator[Step, Any, list[list[SupportNumber]]]:
    """The same from a server: a call for each window."""
    if not any(statements):
        return [[] for _ in statements]
    route = _find_route(settings, scoring)
    meter, own_tokens = _meter(settings.tokenizer)
    queries: list[JudgeQuery[float]] = []
    counts: list[list[int]] = []  # windows by statement
    for of_question in statements:
        counts.append([])
        for statement in of_question:
            prompts = _prompts(statement, settings, meter, own_tokens)
            counts[-1].append(len(prompts))
            for prompt in prompts:
                queries.append(_query(prompt, statement, route, settings))
    verdicts = iter((yield from ask(queries, "facts", VERIFIER)))
    numbers: list[list[SupportNumber]] = []
    for counts_of_question in counts:
        numbers.append([])
        for count in counts_of_question:
            values: list[float | None] = []
            keys: dict[str, None] = {}
            for _ in range(count):
                verdict = next(verdicts)
                values.append(verdict.value)
                keys.update(dict.fromkeys(verdict.keys))
            numbers[-1].append(SupportNumber(_best(values), tuple(keys)))
    return numbers


def _find_route(settings: VerifierSettings, scoring: ScoringContext) -> Route:
    probes: Mapping[Route, Prompt] = {"score": _prompt(*_PROBE, settings)}
    if settings.template is not None:
        probes = {"classify": _prompt(*_PROBE, settings)}

    def fault_of(labels: int) -> str | None:
        if labels > 1 and settings.labels is None:
            return "; say in `labels` which of them mean support, such as {0: 1}"
        return None

    return find_route(VERIFIER, KEY, settings, probes, fault_of, scoring)


def _query(prompt: Prompt, statement: Statement, route: Route, settings: VerifierSettings) -> JudgeQuery[float]:
    return JudgeQuery(
        VERIFY,
        prompt,
        statement.context_id,
        lambda raw: _read_number(raw, settings),
        settings.max_tokens,
        reads="raw",
        parameters=PARAMETERS,
        subject=statement.subject,
        route=route,
    )


def _read_number(raw: str, settings: VerifierSettings) -> float:
    """The log-odds of support in a reply. Raises Unusable."""
    logits = read_scores(raw).rows[-1]
    number = settings.support_logit(logits, [str(place) for place in range(len(logits))])
    if number is None:
        raise Unusable("not_finite")
    return number


def _prompts(
    statement: Statement, settings: VerifierSettings, meter: TokenMeter, own_tokens: frozenset[str]
) -> list[Prompt]:
    """A prompt for each window of the passages; none where the statement is too long."""
    passages = break_special_tokens(quoted(statement.passages), own_tokens)
    text = break_special_tokens(quoted(statement.text), own_tokens)
    around = meter.whole_length((settings.template or "") + text)
    if around + meter.whole_length(passages) <= settings.max_tokens:
        return [_prompt(passages, text, settings)]
    windows = overlapping_windows(passages, meter, settings.max_tokens - around - _SPARE)
    return [_prompt(window, text, settings) for window in windows]


def _prompt(passages: str, statement: str, settings: VerifierSettings) -> Prompt:
    if settings.template is not None:
        return Prompt(({"role": TEXT, "content": _filled(settings.template, passages, statement)},))
    return Prompt(({"role": "user", "content": passages}, {"role": "assistant", "content": statement}))


@lru_cache(maxsize=2)
def _meter(tokenizer: str | None) -> tuple[TokenMeter, frozenset[str]]:
    """What measures windows by this tokenizer, and the tokenizer's own special tokens."""
    if tokenizer is None:
        return TokenMeter(), frozenset()
    return TokenMeter(load_tokenizer(tokenizer)), special_tokens_of(tokenizer)
