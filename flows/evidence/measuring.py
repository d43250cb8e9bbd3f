"""Measuring the evidence: every row on every seed, each kept in the store as soon as it is done.

    OUT/evidence/results/sealong-seed-0-IDENTITY.json    what one seed of one row has measured
    OUT/evidence/evidence.json, evidence.md, plots/      the table of all that lies there

A result's name holds the fingerprint of what decides it (recipes, questions, models), so that a run that was stopped
goes on, and another model is measured anew. The policy and the judge are served once for all rows and seeds.
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
from flows.evidence import LONGREWARD, SEALONG, EvidenceRow, EvidenceSettings, Measured, known_rows
from flows.evidence.plots import evidence_plots
from flows.evidence.table import assembled, chapter
from flows.evidence.workplace import Endpoints, Workplace
from infra.errors import InputError, RecipeError
from infra.models.serving import reached
from infra.running import progress
from infra.store import Store, open_store
from tasks.training.base_identity import base_identity

STAGE = "evidence"
FOLDER = "evidence"
SHIPPED = Path(__file__).parent / "measured.json"


@dataclass(frozen=True, slots=True)
class _Piece:
    """One row on one seed, and where its result is kept."""

    row: EvidenceRow
    seed: int
    path: str


def chosen_rows(only: Sequence[str]) -> list[EvidenceRow]:
    """The rows of these names, or all of them. Raises RecipeError naming those there are."""
    known = known_rows()
    for name in only:
        if name not in known:
            raise RecipeError(f"--only {name}: there is no such row; there are: {', '.join(known)}")
    return [row for name, row in known.items() if not only or name in only]


def measure(settings: EvidenceSettings, rows: Sequence[EvidenceRow]) -> dict[str, Any]:
    """Measure what is missing of these rows, and return the table of all rows that have results (see `write_table`)."""
    store = open_store(settings.out)
    pieces = [piece for seed in range(settings.seeds) for piece in pieces_of(settings, seed)]
    wanted = [piece for piece in pieces if piece.row in rows]
    missing = [piece for piece in wanted if not store.exists(piece.path)]
    progress.expect(STAGE, len(wanted))
    progress.advance(STAGE, len(wanted) - len(missing))
    if missing:
        with served(settings, missing) as endpoints:
            workplaces = {seed: Workplace(seed, settings, endpoints) for seed in range(settings.seeds)}
            for piece in missing:
                progress.note(STAGE, f"{piece.row.name}, seed {piece.seed}")
                result = piece.row.measure(workplaces[piece.seed]).to_json()
                store.write(piece.path, json.dumps(result, allow_nan=False).encode())
                progress.advance(STAGE)
    return write_table(store, settings, pieces)


def pieces_of(settings: EvidenceSettings, seed: int) -> list[_Piece]:
    """Every row on a seed; the seed's questions are written where they are not there yet."""
    work = Workplace(seed, settings)
    work.write_questions()
    rows = known_rows().values()
    identities = {methods: work.identity(methods) for methods in {row.methods for row in rows}}
    return [
        _Piece(row, seed, f"{FOLDER}/results/{row.name}-seed-{seed}-{identities[row.methods]}.json") for row in rows
    ]


@contextlib.contextmanager
def served(settings: EvidenceSettings, missing: Sequence[_Piece]) -> Iterator[Endpoints]:
    """Servers for the models that these pieces ask, until the block ends."""
    judged = any(LONGREWARD in piece.row.methods for piece in missing)
    recipe = Workplace(0, settings).recipe(LONGREWARD if judged else SEALONG)
    require_machine(recipe)
    with reached(recipe) as answering:
        models = {"policy": answering.policy, "judge": answering.judge}
        yield {section: model.endpoints for section, model in models.items() if model is not None}


def write_table(store: Store, settings: EvidenceSettings, pieces: Sequence[_Piece]) -> dict[str, Any]:
    """Write evidence.json, evidence.md and the plots from the results that are there; returns the table.

    {"measured": {"command", "date", "machine", "questions", "seeds", ...}, "rows": [...]} as `assembled` makes them.
    """
    results: dict[str, dict[int, Measured]] = {}
    for piece in pieces:
        if store.exists(piece.path):
            result = Measured.from_json(json.loads(store.read(piece.path)))
            results.setdefault(piece.row.name, {})[piece.seed] = result
    rows = [assembled(row, results[name]) for name, row in known_rows().items() if name in results]
    table = {"measured": _circumstances(settings), "rows": rows}
    text = json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    store.write(f"{FOLDER}/evidence.json", text.encode())
    store.write(f"{FOLDER}/evidence.md", chapter(table).encode())
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
    told = machine()
    changes = [f"--set {each}" for each in settings.changes]
    recipe = Workplace(0, settings).recipe(LONGREWARD)
    policy = recipe.policy.serve.model_path if recipe.policy.serve else recipe.policy.name
    words = ["longmill evidence", f"--questions {settings.questions}", f"--seeds {settings.seeds}", *changes]
    return {
        "command": " ".join(words),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{told['cores']} cores, {told['processor']}",
        "policy": {"name": recipe.policy.name, "revision": recipe.policy.revision, "weights": base_identity(policy)},
        "judge": recipe.judge.name if recipe.judge else None,
        "questions": settings.questions,
        "seeds": settings.seeds,
        "amounts": list(settings.amounts),
    }
