"""A reward model from the manifest to the store: what plain transformers loads gives the scores of the card's table."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra.errors import RecipeError, TrainingError
from tasks.judging import classifier
from tasks.judging.reward_classifier import open_reward_model
from tasks.judging.reward_input import question_messages
from tasks.judging.reward_settings import RewardModelSettings
from tasks.scoring import ScoringContext, parse_scorers
from tasks.scoring.run import score_answers
from tasks.training.reward import job as jobs
from tasks.training.reward.job import RewardJob, train_reward
from tasks.training.reward.settings import RewardRun
from tests.support.judged_answers import reward_job
from tests.support.recipes_for_scoring import no_embedder, recipe_with
from tests.support.scripted_judge import case_of


@pytest.fixture
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The subprocess's work in this process: it is tested in test_launching.py."""

    def launch(run: RewardRun, **_: Any) -> None:
        from tasks.training.reward.run import run as train_here

        train_here(RewardRun.load(run.dump()))

    monkeypatch.setattr(jobs, "launch", launch)


def stock_heads(folder: Path, messages: list[dict[str, str]]) -> list[float]:
    """By plain transformers alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokens = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    with torch.inference_mode():
        heads: list[float] = model(**tokens).logits[0].tolist()
    return heads


def trained_folder(job: RewardJob) -> tuple[Path, Any]:
    result = train_reward(job)
    local = job.store.local_path(result.model)
    assert local is not None
    return Path(local), result


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
@pytest.mark.parametrize(
    "changes", [{}, {"objective": "pairwise", "method": "lora", "lora_rank": 4, "learning_rate": 1e-2}], ids=str
)
def test_a_trained_model_loads_anywhere_and_scores_here_as_there(
    tmp_path: Path, manifest: str, changes: dict[str, Any]
) -> None:
    job = reward_job(tmp_path, manifest, epochs=3, **changes)
    folder, result = trained_folder(job)
    assert result.heads == (("reward",) if changes else ("consensus",))
    assert "read once for all answers" in result.sharing
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["problem_type"] == "regression"
    assert not list(folder.glob("*.bin")) and not (folder / "adapter_config.json").exists()
    card = (folder / "README.md").read_text()
    assert "license: cc-by-4.0" in card and "pairs ordered as the judge does" in card
    figures = json.loads((folder / "figures.json").read_text())
    assert figures == result.figures and figures["questions"] > 0
    held_out = pq.read_table(folder / "held-out.parquet").to_pylist()
    assert len(held_out) == result.test_answers

    # the scorer, with the prompt read once, beside plain transformers
    case = case_of("It is 4.", "No.", "It is 5, or 6.", context="Four stones.", question="How many?")
    scorer = {"scorer": "reward_model", "model": str(folder), "with_context": True}
    recipe = recipe_with(scorer, sampling={"strategy": "plain"})
    judgements = score_answers([case], parse_scorers(recipe), ScoringContext(no_embedder, None, recipe))
    model = open_reward_model(RewardModelSettings.model_validate(_without(scorer)))
    assert model.shares
    prompt = question_messages(case.example, case.context, recipe)
    assert "Four stones." in prompt[0]["content"]
    for judgement, answer in zip(judgements, case.answers, strict=True):
        expected = stock_heads(folder, [*prompt, {"role": "assistant", "content": answer.text}])
        assert judgement.score == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    classifier._load.cache_clear()
    assert train_reward(dataclasses.replace(job, base=str(tmp_path / "base"))) == result  # not trained again


def _without(scorer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in scorer.items() if key != "scorer"}


@pytest.mark.slow
@pytest.mark.usefixtures("_in_process")
def test_a_stopped_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, manifest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.training.watch import ProgressCallback

    job = reward_job(tmp_path, manifest, epochs=4)
    whole, _ = trained_folder(dataclasses.replace(job, folder=tmp_path / "undisturbed"))
    weights = (whole / "model.safetensors").read_bytes()
    for path in [*whole.iterdir()]:
        path.unlink()
    seen: list[int] = []
    log = ProgressCallback.on_log

    def stop_at_five(self: Any, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        if logs is not None and "loss" in logs:
            seen.append(state.global_step)
            if state.global_step == 5 and seen.count(5) == 1:
                raise TrainingError("stopped here")
        log(self, args, state, control, logs=logs, **others)

    monkeypatch.setattr(ProgressCallback, "on_log", stop_at_five)
    with pytest.raises(TrainingError, match="stopped here"):
        train_reward(job)
    again, result = trained_folder(job)
    assert seen[: seen.index(5) + 2] == [1, 2, 3, 4, 5, 5]  # from checkpoint 4
    assert seen[-1] == result.steps
    assert (again / "model.safetensors").read_bytes() == weights


def test_what_cannot_work_is_said_before_a_row_is_read(tmp_path: Path, manifest: str) -> None:
    job = reward_job(tmp_path, manifest)

    def with_settings(**changes: Any) -> RewardJob:
        return dataclasses.replace(job, settings=job.settings.model_copy(update=changes), manifests=["none.json"])

    with pytest.raises(RecipeError, match=r"reward_training\.schedule: there is no 'cosinus'"):
        train_reward(with_settings(schedule="cosinus"))
    with pytest.raises(RecipeError, match="not a multiple"):
        train_reward(with_settings(batch_size=3))
    with pytest.raises(RecipeError, match="no chat template"):
        tokenizer = Path(job.base, "chat_template.jinja")
        tokenizer.unlink()
        train_reward(with_settings())
