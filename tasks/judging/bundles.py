"""Several facts in one call: the bundles that facts are put into, and the query about one.

In the prompt every fact stands between tags with its number, after its passages; texts are quoted, so that none can
bring a tag, a number or a label of its own. A reply must give exactly one verdict on each number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from infra.models.protocol import Prompt
from tasks.chunks import Span
from tasks.judging.asking import judge_settings
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.quoting import quoted
from tasks.judging.replies import SUPPORT_LABELS, read_supports
from tasks.judging.retrieval import passages_text
from tasks.judging.steps import JudgeQuery, ReplyForm
from tasks.prompts import load_prompt

BUNDLE_KIND = "supports"  # of calls about several facts, and the step of their prompts
_REASON = r"[^\[\]\n]{1,600}"
_FACT_CHARACTERS = 60  # of a fact, in a message


@dataclass(frozen=True, slots=True)
class Claim:
    """A fact and the passages of the context that it is checked against."""

    fact: str
    passages: tuple[Span, ...]


Bundle = tuple[Claim, ...]


def make_bundles(claims: Sequence[Claim], size: int) -> dict[str, Bundle]:
    """The bundle of each fact: at most `size` claims in the order given, each fact once."""
    distinct = list({claim.fact: claim for claim in claims}.values())
    bundles: dict[str, Bundle] = {}
    for start in range(0, len(distinct), size):
        bundle = tuple(distinct[start : start + size])
        for claim in bundle:
            bundles[claim.fact] = bundle
    return bundles


def bundle_query(
    bundle: Bundle, question: AnsweredQuestion, variant: int, max_tokens: int, scoring: ScoringContext
) -> JudgeQuery[tuple[float, ...]]:
    """The query whether each fact of the bundle is supported. `max_tokens`: of the verdict on one fact."""
    prompts = judge_settings(scoring).prompts
    language = question.example.language
    count = len(bundle)
    statements = _bundle_statements(bundle, question)
    return JudgeQuery(
        BUNDLE_KIND,
        _bundle_prompt(statements, language, prompts),
        question.context.context_id,
        partial(read_supports, count=count, material=statements),
        max_tokens * count,
        bundle_form(language, prompts, count),
        variant,
        subject=fact_subject(question, bundle[0].fact),
    )


def _bundle_statements(bundle: Bundle, question: AnsweredQuestion) -> str:
    """The facts of a bundle with their passages, numbered and quoted."""
    statements = []
    for number, claim in enumerate(bundle, 1):
        statements.append(
            f'<passages number="{number}">\n{quoted(passages_text(question.context, claim.passages))}\n</passages>\n\n'
            f'<statement number="{number}">\n{quoted(claim.fact)}\n</statement>'
        )
    return "\n\n".join(statements)


def _bundle_prompt(statements: str, language: str, prompts: str) -> Prompt:
    text = load_prompt(f"judge-{prompts}-{BUNDLE_KIND}", language)
    return Prompt(({"role": "user", "content": text.render(statements=statements)},))


def bundle_form(language: str, prompts: str, count: int) -> ReplyForm:
    """One line for each number in turn: the number, reasons where the prompt wants some, the label."""
    label = rf"\[\[({'|'.join(SUPPORT_LABELS[language])})\]\]"
    reason = _REASON if prompts == "full" else ""
    return ReplyForm("regex", r"\n".join(rf"{number}\. {reason}{label}" for number in range(1, count + 1)))


def fact_subject(question: AnsweredQuestion, fact: str) -> str:
    short = fact if len(fact) <= _FACT_CHARACTERS else fact[: _FACT_CHARACTERS - 1] + "…"
    return f"question {question.example.example_id}, fact “{short}”"
