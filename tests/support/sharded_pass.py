"""One pass over shared prompts with a model cut over the processes of FSDP2, beside the whole model; on CPUs.

`python -m torch.distributed.run --nproc-per-node 2 -m tests.support.sharded_pass` prints, as JSON, the largest
differences of log-probabilities and of a layer's gradient, and that gradient's size.
"""

import json
from typing import Any

import torch
import torch.distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests.support.shared_pairs import TREES, one_pass, random_model, tree_rows


def _passed(batch: dict[str, Any], sharded: bool) -> tuple[Any, Any]:
    """Log-probabilities, and the gradient of one matrix in the first layer."""
    from trl.trainer.utils import add_fused_lm_head

    from tasks.training.shared_prefix.forward import share_prompts

    model = random_model()
    add_fused_lm_head(model, outputs=("log_probs", "mean_logits"))
    share_prompts(model, lambda trees: True)
    if sharded:
        mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    log_probs = model(**batch, use_cache=False, fused_lm_head=True).log_probs
    log_probs.sum().backward()
    gradient = model.model.layers[0].self_attn.q_proj.weight.grad
    return log_probs.detach(), gradient.full_tensor() if sharded else gradient


def main() -> None:
    """Compare both, in every process."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    batch = one_pass(tree_rows(TREES))
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    given = {**{name: batch[name] for name in ("input_ids", "attention_mask", "trees")}, "labels": labels}
    (log_p, gradient), (cut, cut_gradient) = _passed(given, False), _passed(given, True)
    if torch.distributed.get_rank() == 0:
        differences = [float((log_p - cut).abs().max()), float((gradient - cut_gradient).abs().max())]
        print(json.dumps([*differences, float(gradient.abs().max())]))
    torch.distributed.barrier()  # a process that ends while the other still waits for it may be aborted
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
