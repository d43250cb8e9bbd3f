"""Row 12: a reward model that learns from the judge and takes its place, beside the full judge."""

from functools import partial

from flows.evidence import LONGREWARD, EvidenceTableRow
from flows.evidence.cheaper import TARGET, measure_way, target_met
from flows.evidence.cheaper_recipes import DISTILLED

ROW = EvidenceTableRow(
    12,
    "distilled",
    "a distilled reward model?",
    "—",
    TARGET,
    (LONGREWARD,),
    partial(measure_way, way=DISTILLED),
    target_met,
)
