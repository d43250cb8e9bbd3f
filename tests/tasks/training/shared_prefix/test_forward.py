"""The packed row stands for the padded batch at all lengths, answers are blind to each other, and misuse is refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import TrainingError
from tasks.training.shared_prefix.layout import Layout, TokenSegment, Tree
from tests.support.shared_pairs import Shape, double_precision, one_pass, pair, random_model, tree_rows

pytestmark = pytest.mark.slow  # torch and the trainers take seconds to load

FIELDS = ("log_probs", "entropy", "mean_logits", "is_top1")


def _models(**changes: Any) -> tuple[Any, Any]:
    """The same model twice: with TRL's head, and with prompts shared beside."""
    from trl.trainer.utils import add_fused_lm_head

    from tasks.training.shared_prefix.forward import share_prompts

    stock, shared = random_model(**changes), random_model(**changes)
    for model in (stock, shared):
        add_fused_lm_head(model, outputs=FIELDS)
    share_prompts(shared, lambda trees: True)
    return stock, shared


def _model_inputs(rows: list[dict[str, Any]]) -> dict[str, Any]:
    batch = one_pass(rows)
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "trees")}
    return {**given, "labels": labels, "use_cache": False, "fused_lm_head": True}


def _both(models: tuple[Any, Any], inputs: dict[str, Any]) -> tuple[Any, Any]:
    """What TRL's head says of the padded batch, and what the shared prompts give."""
    plain = {name: value for name, value in inputs.items() if name != "trees"}
    return models[0](**plain), models[1](**inputs)


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    return _models()


LENGTH = st.integers(1, 12)
ANSWERS = st.lists(LENGTH, min_size=1, max_size=4).map(tuple)
TREES = st.lists(st.tuples(LENGTH, ANSWERS, st.just(((0, 0),))), min_size=1, max_size=3)


@settings(max_examples=12, deadline=None)
@given(shapes=TREES, seed=st.integers(0, 9), prompts=st.booleans())
def test_every_token_has_the_log_probability_of_the_padded_batch(
    models: tuple[Any, Any], shapes: list[Shape], seed: int, prompts: bool
) -> None:
    inputs = _model_inputs(tree_rows(shapes, seed))
    if prompts:  # scored too, as ORPO's likelihood of prompt and answer asks for
        inputs["labels"] = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    with double_precision():
        expected, shared = _both(models, inputs)
    for name in FIELDS:
        assert shared[name].shape == expected[name].shape
        assert float((shared[name].detach().double() - expected[name].detach().double()).abs().max()) < 1e-9


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(LENGTH, ANSWERS), min_size=1, max_size=3))
def test_each_token_of_the_trees_stands_where_the_layout_says(lengths: list[tuple[int, tuple[int, ...]]]) -> None:
    import torch

    layout = Layout(tuple(Tree(prompt, answers) for prompt, answers in lengths))
    width = max(prompt + max(answers) for prompt, answers in lengths)
    rows = []
    for number, tree in enumerate(layout.trees):
        for side, answer in enumerate(tree.answers):
            row = torch.full((width,), -1)
            row[: tree.prompt] = 1000 * number + torch.arange(tree.prompt)
            row[tree.prompt : tree.prompt + answer] = 1000 * number + 100 * (1 + side) + torch.arange(answer)
            rows.append(row)
    padded = torch.stack(rows)
    sources = layout.sources(width)
    packed = padded.flatten()[sources]
    assert len(packed) == layout.tokens == layout.segments[-1].end
    real = padded >= 0
    assert torch.equal(packed[layout.places(width)][real], padded[real])
    assert len(set(sources.tolist())) == layout.tokens  # nothing is read twice but a last prompt token


def test_trees_by_hand() -> None:
    layout = Layout((Tree(3, (2, 1)), Tree(1, (1, 2, 1))))
    assert layout.sources(5).tolist() == [0, 1, 2, 3, 4, 7, 8, 10, 11, 15, 16, 17, 20, 21]
    assert layout.places(5).tolist() == [
        [0, 1, 2, 3, 4],
        [0, 1, 5, 6, 0],
        [7, 8, 0, 0, 0],
        [9, 10, 11, 0, 0],
        [12, 13, 0, 0, 0],
    ]
    assert layout.segments == (
        TokenSegment(0, 5, 0, 0),
        TokenSegment(5, 7, 0, 2),
        TokenSegment(7, 9, 7, 7),
        TokenSegment(9, 12, 7, 7),
        TokenSegment(12, 14, 7, 7),
    )


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_an_answer_cannot_see_another(models: tuple[Any, Any], changed: int) -> None:
    import torch

    rows = tree_rows([(4, (3,), ((0, 0),)), (7, (5, 5, 5), ((0, 1),))])  # the tree before must be blind to it too
    other = [rows[0], {**rows[1], "answers": [*rows[1]["answers"]]}]
    other[1]["answers"][changed] = [1, 2, 3, 4, 5]
    before, after = (models[1](**_model_inputs(questions)).log_probs for questions in (rows, other))
    same = [torch.equal(one, two) for one, two in zip(before, after, strict=True)]
    assert same == [place != 1 + changed for place in range(4)]


@pytest.mark.parametrize(("prompt", "tokens"), [(40, 40 + 3 + 1 + 2), (1, 1 + 3 + 1 + 2)])
def test_the_prompt_is_read_once_and_only_answers_are_projected(prompt: int, tokens: int) -> None:
    from trl.trainer import utils

    _, model = _models()
    read: list[int] = []
    model.base_model.embed_tokens.register_forward_hook(lambda module, given, output: read.append(given[0].numel()))
    projected: list[int] = []
    kernel = utils._ChunkedLogProbFunction

    class Counted:
        @staticmethod
        def apply(hidden: Any, *rest: Any) -> Any:
            projected.append(len(hidden))
            return kernel.apply(hidden, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_ChunkedLogProbFunction", Counted)
        inputs = _model_inputs(tree_rows([pair(prompt, 3, 2)]))
        model(**inputs)
        inputs["labels"] = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        model(**inputs)
    assert (read, projected) == ([tokens] * 2, [5, prompt - 1 + 5])


def test_in_bfloat16_it_differs_by_no_more_than_the_padded_batch_differs_from_double() -> None:
    stock, shared = _models()
    inputs = _model_inputs(tree_rows([(12, (5, 3, 4), ((0, 1),)), pair(7, 6, 6)]))
    exact = _both((stock, shared), inputs)[0].log_probs.detach()
    rounded, shared_rounded = (
        output.log_probs.detach() for output in _both((stock.bfloat16(), shared.bfloat16()), inputs)
    )
    off = float((rounded - exact).abs().max())
    assert 0 < float((shared_rounded - exact).abs().max()) < 2 * off < 0.5


def test_a_saved_model_does_not_ask_for_the_attention(models: tuple[Any, Any], tmp_path: Path) -> None:
    models[1].save_pretrained(tmp_path)
    assert "longmill" not in (tmp_path / "config.json").read_text()


def test_without_a_fused_head_the_model_is_as_before(models: tuple[Any, Any]) -> None:
    import torch

    batch = one_pass(tree_rows([pair(5, 3, 2), pair(2, 2, 2)]))
    plain, shared = (model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits for model in models)
    assert torch.equal(plain, shared)


def test_layers_that_do_not_follow_the_layout_are_an_error() -> None:
    _, model = _models()
    model.base_model.layers[1].self_attn.forward = lambda hidden_states, **_: (hidden_states, None)
    with pytest.raises(TrainingError, match="1 of the base model's 2 layers"):
        model(**_model_inputs(tree_rows([pair(4, 2, 2)])))


def test_prompts_that_differ_are_an_error(models: tuple[Any, Any]) -> None:
    inputs = _model_inputs(tree_rows([pair(4, 2, 2)]))
    inputs["input_ids"][1, 1] += 1
    with pytest.raises(TrainingError, match="do not share their prompt"):
        models[1](**inputs)
