"""What a person sees of a build on its page in the Prefect UI: name, tags, progress, summary, log, and what failed."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.bench.common import stub_recipe, write_questions
from infra.errors import LongmillError
from tests.support.deployed import runs_of
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

NAME = "seen"


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What Prefect logs of runs, after it was shortened. A filter stays where Prefect sets its handlers up anew."""
    records: list[logging.LogRecord] = []

    def write_down(record: logging.LogRecord) -> bool:
        records.append(record)
        return True

    loggers = [logging.getLogger(name) for name in ("prefect.flow_runs", "prefect.task_runs")]
    for logger in loggers:
        logger.addFilter(write_down)
    yield records
    for logger in loggers:
        logger.removeFilter(write_down)


def lines(records: list[logging.LogRecord], name: str) -> list[str]:
    return [record.getMessage() for record in records if record.name == name]


def artifacts_of(run_id: Any) -> dict[str, Any]:
    """The artifacts of a flow run by their keys, without results of tasks."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    with get_client(sync_client=True) as client:
        filters = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        artifacts = client.read_artifacts(artifact_filter=filters)
    return {artifact.key: artifact for artifact in artifacts if artifact.key}


def test_a_build_that_fails_and_is_run_again_says_on_its_pages_what_happened(
    folder: Path, stub: StubServer, records: list[logging.LogRecord]
) -> None:
    from flows.nightly import nightly
    from flows.rerun import rerun

    write_questions(folder / "questions.jsonl", 6, 200)
    execution = {"shard_size": 3, "attempts": 1, "task_retries": 0, "shards_in_flight": 1}
    recipe = stub_recipe(
        folder, stub.url, execution=execution, sampling={"samples": 4}, dataset={"name": NAME, "test_fraction": 0.0}
    )
    recipe = recipe.model_copy(update={"name": NAME})
    (folder / "recipe.yaml").write_text(recipe.model_dump_json())

    stub.options.script = ["500"] * 12
    with pytest.raises(LongmillError, match="longmill rerun"):
        nightly("recipe.yaml")

    stub.options.script.clear()

    (build,) = [run for run in runs_of("build") if f"recipe:{NAME}" in run.tags]
    plan_tag = next(tag for tag in build.tags if tag.startswith("plan:"))
    plan_id = plan_tag.removeprefix("plan:")
    assert build.name == f"build {NAME} · 6 questions"
    assert f"dataset:{NAME}" in build.tags
    (night,) = [run for run in runs_of("nightly") if run.name == f"nightly {NAME}"]
    assert night.id is not None
    failed = [run for run in runs_of("shard") if plan_tag in run.tags and run.state.is_failed()]
    assert failed
    message = failed[0].state.message
    for part in ("sample · shard 000", "question q", stub.url, "--drop-failed", f"longmill rerun {plan_id} --shards "):
        assert part in message
    assert set(artifacts_of(build.id)) == {f"progress-{plan_id}"}

    assert any(f"longmill status {plan_id} --watch" in line for line in lines(records, "prefect.flow_runs"))
    task_lines = lines(records, "prefect.task_runs")
    assert any(line.startswith("ModelError: sample · shard 000") for line in task_lines)
    assert not any("Finished in state" in line for line in task_lines)
    assert not any(record.exc_info for record in records)

    records.clear()
    built = rerun(plan_id, store=recipe.store, train=False)
    again = [run for run in runs_of("build") if plan_tag in run.tags][-1]
    artifacts = artifacts_of(again.id)
    assert artifacts[f"progress-{plan_id}"].data == 100
    summary = artifacts[f"build-{plan_id}"].data
    assert f"- dataset: `{built['dataset']['folder']}`" in summary
    assert "| questions | 6 |" in summary
    assert "### Bill" in summary
    assert any(line.startswith("published ") for line in lines(records, "prefect.flow_runs"))
    assert not any(record.exc_info for record in records)
