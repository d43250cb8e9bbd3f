"""How far verdicts on facts agree with the judge's own: those of a verifier, or of calls on several facts.

A verdict is 1, 0.5 or 0. Agreement is the share of equal verdicts, and Cohen's kappa what is beyond chance; intervals
are over questions. Verdicts are counted in groups, such as one for each way in which they were given.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.statistics import sums_interval
from tasks.reporting.agreement import RESAMPLES, SEED

VERDICTS = (1.0, 0.5, 0.0)
CONTROL = "control"  # of a fact's evidence: the judge's verdict on it alone, beside the one that counts
VERIFIED, BUNDLED = "verifier", "several facts a call"  # ways in which a verdict is given

Pairs = Iterable[tuple[float, float]]  # a verdict and the judge's


class VerdictAgreement:
    """Counts pairs of verdicts, a question at a time; memory is nine numbers a question and group."""

    def __init__(self) -> None:
        self._tables: dict[str, array[float]] = {}

    def add(self, group: str, pairs: Pairs) -> None:
        """Count the pairs of a question."""
        table = np.zeros((len(VERDICTS), len(VERDICTS)))
        for verdict, judged in pairs:
            if verdict in VERDICTS and judged in VERDICTS:
                table[VERDICTS.index(verdict), VERDICTS.index(judged)] += 1
        if table.any():
            self._tables.setdefault(group, array("d")).extend(table.ravel())

    def state(self) -> dict[str, list[float]]:
        """What has been counted, as JSON values, for `merge`."""
        return {group: values.tolist() for group, values in self._tables.items()}

    def merge(self, state: Mapping[str, Iterable[float]]) -> None:
        """Count what another one has counted, after what is counted here."""
        for group, values in state.items():
            self._tables.setdefault(group, array("d")).extend(values)

    def figures(self) -> dict[str, Any]:
        """By group: {"n": verdicts, "agreement" and "kappa": {"value", "low", "high", "n"}, "table": the verdict's
        full / partial / none by the judge's}."""
        figures = {}
        for group, values in self._tables.items():
            sums = np.array(values, np.float64).reshape(-1, len(VERDICTS) ** 2)
            table = sums.sum(axis=0).reshape(len(VERDICTS), len(VERDICTS))
            n = round(float(table.sum()))
            figures[group] = {
                "n": n,
                "agreement": asdict(sums_interval(sums, _agreement, n, RESAMPLES, SEED)),
                "kappa": asdict(sums_interval(sums, cohens_kappa, n, RESAMPLES, SEED)),
                "table": table.round().astype(int).tolist(),
            }
        return figures


def cohens_kappa(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa of tables [draws, k·k] of counts; NaN for an empty one, and where chance alone agrees fully."""
    size = round(tables.shape[1] ** 0.5)
    counts = tables.reshape(-1, size, size)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / counts.sum(axis=(1, 2), keepdims=True)
        observed = np.trace(shares, axis1=1, axis2=2)
        chance = (shares.sum(axis=2) * shares.sum(axis=1)).sum(axis=1)
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)


def control_pairs(evidence: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """The verdicts of a judgement's facts that were judged alone as well, by the way in which they were given."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for fact in evidence.get("facts", ()):
        control = fact.get(CONTROL)
        if control and control["support"] is not None and fact["support"] is not None:
            way = VERIFIED if fact.get("by") == VERIFIED else BUNDLED
            pairs.setdefault(way, []).append((fact["support"], control["support"]))
    return pairs


def _agreement(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of equal verdicts of tables [draws, 9]; NaN for an empty one."""
    counts = tables.reshape(-1, len(VERDICTS), len(VERDICTS))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: NDArray[np.float64] = np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))
    return shares
