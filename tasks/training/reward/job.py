"""A reward model's training: its data, its subprocess, and the model in the store.

A job's id is the fingerprint of the datasets, the settings, the base model and the seed. It works in
`<folder>/training/<id>`; a run that was stopped resumes there from its last complete checkpoint. The model goes to
`models/<dataset>-reward/<id>/` in the store, `result.json` last: a job that has one is not trained again.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from infra.canonical import fingerprint
from infra.errors import BalanceError, RecipeError, TrainingError
from infra.models.tokens import context_window, has_chat_template, load_tokenizer
from infra.recipe import RewardTraining
from infra.recipe.public import public_text
from infra.store import Store, table_bytes
from tasks.judging.reward_input import RewardEncoder
from tasks.training.base_identity import base_identity, loadable_base
from tasks.training.checkpoints import last_checkpoint, read_progress, rewind
from tasks.training.job import locked, remove_work_files
from tasks.training.launching import OnStep, launch
from tasks.training.outputs import metrics_table, training_plot
from tasks.training.reward.card import reward_card
from tasks.training.reward.figures import ScoredQuestion, held_out_figures
from tasks.training.reward.judged import JudgedData, read_judged
from tasks.training.reward.rows import EncodedRows, encode_rows
from tasks.training.reward.settings import RewardRun
from tasks.training.settings import check_run_settings, quarter_means, result_text
from tasks.training.trackers import check_trackers

# Settings that do not change the trained weights, and so not the job's id.
_WITHOUT_EFFECT = {"save_steps", "gradient_checkpointing", "base", "report_to"}
_MODULE = "tasks.training.reward.run"
OnScored = Callable[[int, int], None]  # held-out questions that are scored, and all of them


@dataclass(frozen=True, slots=True)
class RewardJob:
    """What to train. `base` is a folder, a hub name or a model in the box; `manifests` are paths in the store."""

    store: Store
    manifests: Sequence[str]
    settings: RewardTraining
    base: str
    base_revision: str
    folder: Path
    seed: int = 0
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class RewardResult:
    """A trained reward model. `model` is its folder in the store; `figures` are those on held-out contexts."""

    model: str
    name: str
    revision: str
    objective: str
    base: str
    heads: tuple[str, ...]
    steps: int
    questions: int  # trained on
    train_answers: int
    test_answers: int
    drops: dict[str, int]  # answers by reason
    longest: int  # tokens of the longest prompt with an answer
    first_loss: float
    last_loss: float
    sharing: str
    figures: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def train_reward(job: RewardJob, *, on_step: OnStep | None = None, on_scored: OnScored | None = None) -> RewardResult:
    """Train the job and measure it on held-out contexts, or return its result when it is finished.

    `on_step` is called as in `tasks.training.job.train`, `on_scored` while the held-out answers are scored. Raises
    RecipeError or PrerequisiteError for settings that cannot work, InputError or StoreError for datasets, TrainingError
    for rows that do not fit, a loss that is not finite or does not move, and a subprocess that fails.
    """
    _check(job)
    data = read_judged(job.store, job.manifests, job.settings, job.seed)
    identity = job_id(job, data)
    model = f"models/{data.name}-reward/{identity}"
    before = _stored(job, model)
    if before is not None:
        return before
    folder = (job.folder / "training" / identity).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        before = _stored(job, model)
        if before is not None:
            return before
        rows = _encode(job, data, folder)
        run = _prepare(job, rows, folder)
        scored = 0

        def count_scored(_: dict[str, Any]) -> None:
            nonlocal scored
            scored += 1
            if on_scored is not None:
                on_scored(scored, rows.test.questions)

        run.scored.unlink(missing_ok=True)
        launch(run, log=folder / "train.log", module=_MODULE, on_step=on_step, readers={run.scored: count_scored})
        result = _publish(job, data, rows, run, model)
        remove_work_files(folder)
        (folder / "rows.json").unlink(missing_ok=True)
    return result


def job_id(job: RewardJob, data: JudgedData) -> str:
    """16 hex digits from the datasets' content, the settings, the base model and the seed."""
    return fingerprint(
        {
            "manifests": [dataset.sha256 for dataset in data.datasets],
            "settings": job.settings.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
            "base": base_identity(job.base),
            "base_revision": job.base_revision,
            "seed": job.seed,
        }
    )[:16]


def _check(job: RewardJob) -> None:
    """Raises RecipeError or PrerequisiteError for what would fail later, before a row is read."""
    check_run_settings(job.settings)
    check_trackers(job.settings)
    if not has_chat_template(load_tokenizer(job.base, job.trust_remote_code)):
        raise RecipeError(
            f"reward_training.base: the tokenizer of {job.base} has no chat template; take an instruct model"
        )


def _stored(job: RewardJob, model: str) -> RewardResult | None:
    path = f"{model}/result.json"
    if not job.store.exists(path):
        return None
    value = json.loads(job.store.read(path))
    return RewardResult(**{**value, "heads": tuple(value["heads"])})


def _encode(job: RewardJob, data: JudgedData, folder: Path) -> EncodedRows:
    encoder = RewardEncoder(load_tokenizer(job.base, job.trust_remote_code), public_text(job.base))
    longest = min(job.settings.max_length, context_window(job.base, job.trust_remote_code) or job.settings.max_length)
    return encode_rows(data, encoder, job.settings, longest, folder)


def _prepare(job: RewardJob, rows: EncodedRows, folder: Path) -> RewardRun:
    """The configuration of the subprocess, with the checkpoint to resume from."""
    shutil.rmtree(folder / "output", ignore_errors=True)
    checkpoint = last_checkpoint(folder / "checkpoints")
    run = RewardRun(
        settings=job.settings,
        base=loadable_base(job.base),
        base_name=public_text(job.base),
        trust_remote_code=job.trust_remote_code,
        seed=job.seed,
        folder=str(folder),
        checkpoint=str(checkpoint) if checkpoint else None,
        questions=rows.train.questions,
        answers=rows.train.answers,
        longest=max(rows.train.longest, rows.test.longest),
        heads=rows.heads,
    )
    rewind(run)
    return run


def _publish(job: RewardJob, data: JudgedData, rows: EncodedRows, run: RewardRun, model: str) -> RewardResult:
    """Write the files beside the weights, copy all to the store, and write result.json, which ends the job."""
    summary_file = run.output / "summary.json"
    if not summary_file.exists():
        raise TrainingError(f"{run.output}: training ended without its summary; see train.log beside it")
    summary = json.loads(summary_file.read_text(encoding="utf-8"))
    summary_file.unlink()
    steps = read_progress(run.progress)
    first, last = quarter_means([step["loss"] for step in steps])
    questions, table = _held_out(run)
    figures = held_out_figures(questions, [head.name for head in run.heads])
    results = {
        "steps": summary["steps"],
        "first_loss": first,
        "last_loss": last,
        "sharing": summary["sharing"],
        "figures": figures,
    }
    (run.output / "metrics.parquet").write_bytes(table_bytes(metrics_table(steps)))
    (run.output / "training.png").write_bytes(training_plot(steps, run.settings.objective))
    (run.output / "held-out.parquet").write_bytes(table_bytes(table))
    (run.output / "figures.json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    described = {
        "manifests": {str(dataset.manifest["name"]): dataset.sha256 for dataset in data.datasets},
        "base": job.base,
        "base_revision": job.base_revision,
        "trust_remote_code": job.trust_remote_code,
        "seed": job.seed,
        "settings": job.settings.model_dump(mode="json"),
        "split": data.sides.rule,
        "rows": rows.to_json(),
    }
    (run.output / "job.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    card = reward_card(run, data, rows, job.base_revision, results)
    (run.output / "README.md").write_text(card, encoding="utf-8")
    result = RewardResult(
        model=model,
        name=f"{data.name}-reward-{model.rpartition('/')[2]}",
        revision=model.rpartition("/")[2],
        objective=run.settings.objective,
        base=run.base_name,
        heads=tuple(head.name for head in run.heads),
        questions=rows.train.questions,
        train_answers=rows.train.answers,
        test_answers=rows.test.answers,
        drops=rows.drops,
        longest=run.longest,
        **results,
    )
    job.store.upload_folder(run.output, model)
    job.store.put_if_absent(f"{model}/result.json", result_text(result.to_json()).encode())
    return result


def _held_out(run: RewardRun) -> tuple[list[ScoredQuestion], pa.Table]:
    """The held-out questions with both scores, and a table of their answers. Raises BalanceError where one is lost."""
    with pa.OSFile(str(run.test_rows), "rb") as file, pa.ipc.open_stream(file) as stream:
        rows = stream.read_all().to_pylist()
    scored = [json.loads(line) for line in run.scored.read_text(encoding="utf-8").splitlines()]
    if [row["example_id"] for row in rows] != [line["example_id"] for line in scored]:
        raise BalanceError(f"{len(rows)} held-out questions were encoded, but {len(scored)} were scored")
    questions, answers = [], []
    for row, line in zip(rows, scored, strict=True):
        question = ScoredQuestion(
            row["context_id"],
            len(row["prompt_ids"]),
            tuple(map(len, row["answers"])),
            tuple(map(tuple, row["scores"])),
            tuple(row["rewards"]),
            tuple(map(tuple, line["heads"])),
        )
        questions.append(question)
        for place, sample in enumerate(row["samples"]):
            answers.append(
                {
                    "example_id": row["example_id"],
                    "context_id": row["context_id"],
                    "sample_index": sample,
                    "prompt_tokens": question.prompt_tokens,
                    "answer_tokens": question.answer_tokens[place],
                    "judged_scores": list(question.judged[place]),
                    "judged_reward": question.rewards[place],
                    "scores": list(question.heads[place]),
                    "reward": question.predicted[place],
                }
            )
    return questions, pa.Table.from_pylist(answers, schema=_HELD_OUT)


_HELD_OUT = pa.schema(
    [
        pa.field("example_id", pa.string(), False),
        pa.field("context_id", pa.string(), False),
        pa.field("sample_index", pa.int64(), False),
        pa.field("prompt_tokens", pa.int64(), False),
        pa.field("answer_tokens", pa.int64(), False),
        pa.field("judged_scores", pa.list_(pa.float64()), False),
        pa.field("judged_reward", pa.float64()),
        pa.field("scores", pa.list_(pa.float64()), False),
        pa.field("reward", pa.float64(), False),
    ]
)
