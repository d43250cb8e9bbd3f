"""The pieces of attention are the attention under the layout's mask, on the GPU's branch too, in linear memory."""

from typing import Any

import pytest

from tasks.training.shared_prefix.layout import Layout, Tree

pytestmark = pytest.mark.slow  # torch and the trainers take seconds to load

TREES = (Tree(11, (4, 3, 1)), Tree(1, (2, 5, 3)), Tree(6, (1, 1, 7)))


def _mask(layout: Layout) -> Any:
    """Who sees whom: the queries of a segment its shared keys, and of its own those up to themselves."""
    import torch

    seen = torch.zeros(layout.tokens, layout.tokens, dtype=torch.bool)
    for segment in layout.segments:
        seen[segment.start : segment.end, segment.shared_start : segment.shared_end] = True
        for place in range(segment.start, segment.end):
            seen[place, segment.start : place + 1] = True
    return seen


def _heads(tokens: int, dtype: str, heads: int = 4, key_heads: int = 2, width: int = 8) -> list[Any]:
    import torch

    draw = torch.Generator().manual_seed(7)
    shapes = [(1, heads, tokens, width)] + 2 * [(1, key_heads, tokens, width)]
    return [torch.randn(*shape, generator=draw).to(getattr(torch, dtype)).requires_grad_() for shape in shapes]


def _shared_pass(layout: Layout) -> Any:
    import torch

    from tasks.training.shared_prefix.attention import SharedPass

    return SharedPass(layout, torch.empty(0))


def _attend(shared_pass: Any, query: Any, key: Any, value: Any) -> Any:
    import torch

    from tasks.training.shared_prefix.attention import attend

    return attend(torch.nn.Module(), query, key, value, None, shared_prefix=shared_pass)[0].transpose(1, 2)


BRANCHES = pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])


@pytest.fixture
def _branch(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.training.shared_prefix.attention._on_gpu", lambda tensor: gpu)


@BRANCHES
@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-12), ("float32", 1e-5), ("bfloat16", 0.05)])
def test_the_pieces_are_the_masked_whole_and_so_are_their_gradients(gpu: bool, dtype: str, error: float) -> None:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    layout = Layout(TREES)
    expected, pieces = _heads(layout.tokens, "float64"), _heads(layout.tokens, dtype)
    for given, attended in (
        (expected, scaled_dot_product_attention(*expected, attn_mask=_mask(layout), enable_gqa=True)),
        (pieces, _attend(_shared_pass(layout), *pieces)),
    ):
        given.append(attended.detach())
        (attended.double() * torch.arange(8)).sum().backward()
    for one, two in zip(expected, pieces, strict=True):
        assert float((one - two).detach().abs().max()) < error
        if one.requires_grad:
            assert float((one.grad - two.grad).abs().max()) < 8 * error * float(one.grad.abs().max())


@BRANCHES
@pytest.mark.usefixtures("_branch")
def test_under_autocast_the_heads_may_differ_in_number_format(gpu: bool) -> None:
    """Training all weights: the rotary embedding gives float32, autocast's value projection bfloat16."""
    import torch

    layout = Layout(TREES)
    query, key, value = _heads(layout.tokens, "float32")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attended = _attend(_shared_pass(layout), query, key, value.bfloat16())
    in_bfloat16 = [heads.bfloat16() for heads in (query, key, value)]
    assert torch.equal(attended, _attend(_shared_pass(layout), *in_bfloat16))


@BRANCHES
@pytest.mark.usefixtures("_branch")
def test_no_tensor_grows_with_the_square_of_the_length(gpu: bool) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            output = function(*arguments, **(named or {}))
            for tensor in output if isinstance(output, tuple | list) else (output,):
                self.numbers = max(self.numbers, getattr(tensor, "numel", int)())
            return output

    largest = []
    for prompt in (2000, 4000):
        layout = Layout((Tree(prompt, (16, 16)),))
        heads, shared_pass = _heads(layout.tokens, "float32"), _shared_pass(layout)
        shared_pass.mask(layout.segments[1], heads[0])  # the GPU's cannot be made under such a mode
        with Largest() as seen:
            _attend(shared_pass, *heads).sum().backward()
        largest.append(seen.numbers)
    assert largest[1] < 2.01 * largest[0] and largest[1] < 4000 * 100
