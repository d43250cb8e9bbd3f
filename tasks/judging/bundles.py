"""Several facts in one call: how they are put together, asked about, and read.

The facts of a question are parted into bundles before any is judged, in the order in which the answers claim them. So
a call holds the same facts whichever of them is asked for first, and leaving answers unjudged changes no verdict.
In the prompt every fact stands between tags with its number, behind the passages that were looked up for it; texts
are quoted, so that none can bring a tag, a number or a label of its own. A reply must give exactly one verdict on
each number. What it leaves out: what becomes of a bundle without a usable reply (`facts.py` asks one by one then).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.models.client import Prompt
from tasks.judging.asking import JudgeQuery, ReplyForm, judge_of
from tasks.judging.chunks import Span
from tasks.judging.quoting import quoted
from tasks.judging.replies import SUPPORT_LABELS, read_supports
from tasks.prompts import load_prompt
from tasks.records.example import Context
from tasks.scoring import AnsweredQuestion, ScoringContext

KIND = "supports"  # of these calls, and the step of their prompts
_REASON = r"[^\[\]\n]{1,600}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A fact and the passages of the context that it is checked against."""

    fact: str
    passages: tuple[Span, ...]


Bundle = tuple[Claim, ...]


def bundled(claims: Sequence[Claim], size: int) -> dict[str, Bundle]:
    """The bundle of each fact: at most `size` claims in the order given, each fact once."""
    distinct = list({claim.fact: claim for claim in claims}.values())
    bundles = [tuple(distinct[start : start + size]) for start in range(0, len(distinct), size)]
    return {claim.fact: bundle for bundle in bundles for claim in bundle}


def passages_text(context: Context, passages: Sequence[Span]) -> str:
    """The passages in their order, a blank line between them."""
    return "\n\n".join(context.text[start:end].strip() for start, end in passages)


def ask_bundle(
    bundle: Bundle, case: AnsweredQuestion, variant: int, max_tokens: int, bench: ScoringContext
) -> JudgeQuery[tuple[float, ...]]:
    """The question whether each fact of the bundle is supported. `max_tokens`: of the verdict on one fact."""
    judge, _ = judge_of(bench)
    language, count = case.example.language, len(bundle)
    return JudgeQuery(
        KIND,
        _prompt(bundle, case, judge.prompts),
        case.context.context_id,
        lambda text: read_supports(text, count),
        max_tokens * count,
        form_of(language, judge.prompts, count),
        variant,
    )


def _prompt(bundle: Bundle, case: AnsweredQuestion, prompts: str) -> Prompt:
    statements = "\n\n".join(
        f'<passages number="{number}">\n{quoted(passages_text(case.context, claim.passages))}\n</passages>\n\n'
        f'<statement number="{number}">\n{quoted(claim.fact)}\n</statement>'
        for number, claim in enumerate(bundle, 1)
    )
    text = load_prompt(f"judge-{prompts}-{KIND}", case.example.language)
    return Prompt(({"role": "user", "content": text.render(statements=statements)},))


def form_of(language: str, prompts: str, count: int) -> ReplyForm:
    """One line for each number in turn: the number, reasons where the prompt wants some, the label."""
    label = rf"\[\[({'|'.join(SUPPORT_LABELS[language])})\]\]"
    reason = _REASON if prompts == "full" else ""
    return ReplyForm("regex", r"\n".join(rf"{number}\. {reason}{label}" for number in range(1, count + 1)))
