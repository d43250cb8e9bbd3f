"""Row 11: verdicts by entailment: calls, tokens, money and agreement beside the full judge's."""

from functools import partial

from flows.evidence import LONGREWARD, EvidenceTableRow
from flows.evidence.cheaper import TARGET, measure_way, target_met
from flows.evidence.cheaper_recipes import ENTAILMENT

ROW = EvidenceTableRow(
    11,
    "entailment",
    "verdicts by entailment?",
    "—",
    TARGET,
    (LONGREWARD,),
    partial(measure_way, way=ENTAILMENT),
    target_met,
)
