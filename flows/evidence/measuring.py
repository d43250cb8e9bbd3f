"""Measuring the evidence: every row on every seed; a result is stored as soon as it is there.

    OUT/evidence/results/sealong-seed-0-IDENTITY.json    the result of one seed of one row
    OUT/evidence/evidence.json, evidence.md, plots/      the table of all results

IDENTITY is the fingerprint of what decides the result (recipes, questions, models): a run that was stopped continues,
and another model is measured again. The policy and the judge are served once for all rows and seeds.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.bench.machine import machine
from flows.cli.doctor import require_machine
from flows.evidence import LONGREWARD, SEALONG, WORLDS, EvidenceSettings, EvidenceTableRow, SeedResult, evidence_rows
from flows.evidence.experiment import Endpoints, Experiment
from flows.evidence.plots import evidence_plots
from flows.evidence.table import markdown_chapter, table_row
from infra.errors import InputError, UsageError
from infra.running import progress
from infra.serving.servers import serve_recipe
from infra.store import Store, open_store
from tasks.training.base_identity import base_identity

STAGE = "evidence"
FOLDER = "evidence"
SHIPPED = Path(__file__).parent / "measured.json"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row on one seed, and the path of its result in the store."""

    row: EvidenceTableRow
    seed: int
    path: str


def selected_rows(only: Sequence[str], text: str = WORLDS) -> list[EvidenceTableRow]:
    """The rows of these names; for no name all rows that are measured on this kind of text.

    Raises RecipeError for an unknown name, with those there are.
    """
    rows = evidence_rows()
    for name in only:
        if name not in rows:
            raise UsageError(f"--only {name}: there is no such row; there are: {', '.join(rows)}")
        if text not in rows[name].texts:
            usable = ", ".join(row.name for row in rows.values() if text in row.texts)
            raise UsageError(f"--only {name}: is not measured on this text ({text}); these are: {usable}")
    if not only:
        return [row for row in rows.values() if text in row.texts]
    return [row for name, row in rows.items() if name in only]


def measure(settings: EvidenceSettings, rows: Sequence[EvidenceTableRow]) -> dict[str, Any]:
    """Measure what is missing of these rows, and return the table of all rows that have results (see `write_table`)."""
    store = open_store(settings.out)
    measurements: list[Measurement] = []
    for seed in range(settings.seeds):
        measurements += seed_measurements(settings, seed)
    selected = [measurement for measurement in measurements if measurement.row in rows]
    missing = [measurement for measurement in selected if not store.exists(measurement.path)]
    progress.expect(STAGE, len(selected))
    progress.advance(STAGE, len(selected) - len(missing))
    if missing:
        with served_models(settings, missing) as endpoints:
            experiments = [Experiment(seed, settings, endpoints) for seed in range(settings.seeds)]
            for measurement in missing:
                row, seed = measurement.row, measurement.seed
                progress.note(STAGE, f"{row.name}, seed {seed}")
                result = row.measure(experiments[seed]).to_json()
                store.write(measurement.path, json.dumps(result, allow_nan=False).encode())
                progress.advance(STAGE)
    return write_table(store, settings, measurements)


def seed_measurements(settings: EvidenceSettings, seed: int) -> list[Measurement]:
    """Every row on a seed; the seed's questions are written where they are missing."""
    experiment = Experiment(seed, settings)
    experiment.write_questions()
    identities: dict[tuple[str, ...], str] = {}  # by methods
    measurements = []
    for row in evidence_rows().values():
        if row.methods not in identities:
            identities[row.methods] = experiment.identity(row.methods)
        path = f"{FOLDER}/results/{row.name}-seed-{seed}-{identities[row.methods]}.json"
        measurements.append(Measurement(row, seed, path))
    return measurements


@contextlib.contextmanager
def served_models(settings: EvidenceSettings, missing: Sequence[Measurement]) -> Iterator[Endpoints]:
    """Servers for the models that these measurements call, until the block ends."""
    judged = any(LONGREWARD in measurement.row.methods for measurement in missing)
    recipe = Experiment(0, settings).recipe(LONGREWARD if judged and LONGREWARD in settings.methods else SEALONG)
    require_machine(recipe)
    with serve_recipe(recipe) as running:
        endpoints = {"policy": running.policy.endpoints}
        if running.judge is not None:
            endpoints["judge"] = running.judge.endpoints
        yield endpoints


def write_table(store: Store, settings: EvidenceSettings, measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Write evidence.json, evidence.md and the plots from the results that are there; returns the table.

    {"measured": {"command", "date", "machine", "questions", "seeds", ...}, "rows": [...]} as `table_row` makes them.
    """
    results: dict[str, dict[int, SeedResult]] = {}  # by the row's name, by seed
    for measurement in measurements:
        if store.exists(measurement.path):
            result = SeedResult.from_json(json.loads(store.read(measurement.path)))
            results.setdefault(measurement.row.name, {})[measurement.seed] = result
    rows = []
    for name, row in evidence_rows().items():
        if name in results:
            rows.append(table_row(row, results[name]))
    table = {"measured": _circumstances(settings), "rows": rows}
    text = json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    store.write(f"{FOLDER}/evidence.json", text.encode())
    store.write(f"{FOLDER}/evidence.md", markdown_chapter(table).encode())
    for name, image in evidence_plots(table).items():
        store.write(f"{FOLDER}/plots/{name}.png", image)
    return table


def shipped_table() -> dict[str, Any]:
    """The table that was measured last, from the file beside this one. Raises InputError when none is shipped."""
    if not SHIPPED.exists():
        raise InputError(f"{SHIPPED.name}: no table is shipped with this version; measure one with `longmill evidence`")
    table: dict[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return table


def _circumstances(settings: EvidenceSettings) -> dict[str, Any]:
    """The command, the date, the machine and the models."""
    here = machine()
    changes = [f"--set {change}" for change in settings.changes]
    recipe = Experiment(0, settings).recipe(settings.methods[-1])
    policy = recipe.policy.serve.model_path if recipe.policy.serve else recipe.policy.name
    words = ["longmill evidence", f"--count {settings.questions}", f"--seeds {settings.seeds}", *changes]
    if settings.model:
        words.insert(1, f"--model {settings.model}")
    if settings.file:
        words.insert(1, f"--questions {Path(settings.file).name}")
    return {
        "command": " ".join(words),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{here['cores']} cores, {here['processor']}",
        "policy": {"name": recipe.policy.name, "revision": recipe.policy.revision, "weights": base_identity(policy)},
        "judge": recipe.judge.name if recipe.judge else None,
        "questions": settings.questions,
        "seeds": settings.seeds,
        "amounts": list(settings.amounts),
    }
