"""Row 13: a cascade of claims, the distilled reward model and the judge, beside the full judge."""

from functools import partial

from flows.evidence import LONGREWARD, EvidenceTableRow
from flows.evidence.cheaper import TARGET, measure_way, target_met
from flows.evidence.cheaper_recipes import CASCADE

ROW = EvidenceTableRow(
    13,
    "cascade",
    "a cascade before the judge?",
    "—",
    TARGET,
    (LONGREWARD,),
    partial(measure_way, way=CASCADE),
    target_met,
)
