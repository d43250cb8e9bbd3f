"""Train the judge: the policy in a wider model with new layers, taught to reply what the rules reply. Resumable.

A tiny model needs long training before it can look up a value; the policy can, so the judge begins with its layers.
Four things let it learn to compare what is stated with what is claimed:

- Words that the policy never read (most words of the judge's prompts) begin as the mean of the words of the policy's
  own prompts, which it ignores. With random embeddings it would find half as many of the values that passages state.
- 32 more dimensions hold the identity of every word; the other dimensions lose it within two layers. They are a
  projection of the output embeddings, and the policy's layers neither read nor write them at first.
- The first head of the first new layer looks for the place where a word was predicted: its queries are the identity
  dimensions, its keys the same projection of what the policy predicts. So it finds a claimed value in the passages.
- The first head of the second new layer looks back from the verdict to the end of the statement that it is about.

All of this is trained further. In the first steps the policy's part does not change: at first only short passages
with many statements teach the new layers to compare, then all kinds of calls come in. Over the first half of the run
there is more and more text to read. The batch of a step depends on (seed, step) alone and never comes twice, so the log
measures worlds that were not trained on. The running average of the weights is exported, in 16 bits. A GPU is used like
a CPU, without a compiled step: the batches are small.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from infra.models.tokens import resolve_model
from infra.running import progress
from tasks.microworld.judge_accuracy import export_judge
from tasks.microworld.judge_batches import BRANCHED, FIRST_PLAN, PLAN, JudgeBatch, judge_batches
from tasks.microworld.judge_lessons import KINDS, lesson_settings
from tasks.microworld.policy_lessons import IGNORED
from tasks.microworld.tokenizer import EOS, SPECIAL, build_tokenizer, encode
from tasks.microworld.training import learning_rate_share, load_checkpoint, save_checkpoint, update_average, write_log
from tasks.microworld.words import ABOUT, FILLER, LEADS, NAMES, RELATIONS

STAGE = "judge"
_SAVE_EVERY, _LOG_EVERY = 50, 25  # steps
_CHUNK_COUNTS = (2, 3, 4, 5)  # chunks for a statement: fewer than the factory's five cost less and teach the same
_FIRST_STEPS = 200  # with FIRST_PLAN: the new layers learn to compare
_FROZEN_STEPS = 320  # in which the policy's part does not change: until replies have their form
_LATER_SHARE = 0.45  # of the learning rate, after the frozen steps
_INHERITED_SHARE = 0.5  # of the learning rate, for the policy's part
_PREDICTIONS = "told"  # the name of the predictions in the log

_IDENTITY = 32  # identity dimensions, and the width of a head
_IDENTITY_LENGTH = 0.4  # of a word's identity; a whole embedding is about 1.2 long and should look the same as before
_IDENTITY_SCALE = 16.0  # by which new layers amplify the identity: the other dimensions are about 10 long by then
_CONSTANT = 0.2  # the last identity dimension, the same for every word
_KEY_SCALE = 2.0  # of the first head: a predicted word scores about 12, any other about 2
_TOKENS_BACK, _ROTATIONS, _BACK_SCALE = 12.6, 8, 0.1  # from a verdict to the end of its statement; 2 tokens wide
_NOISE = 0.1  # of the embedding of an unread word, as a share of the deviation of all words
_ATTENTION_STD, _ATTENTION_OUT_STD, _MLP_OUT_STD = 0.06, 0.02, 0.01  # of the weights of new layers
_INPUT_EMBEDDINGS, _OUTPUT_EMBEDDINGS = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class JudgeTrainingSettings:
    """All that decides the weights."""

    steps: int = 5000
    seed: int = 0
    layers: int = 5
    learning_rate: float = 1.5e-3


class _ReplyCounts:
    """How many replies were right in every token, by kind, and how many predictions, since the last log line."""

    def __init__(self) -> None:
        self.right = dict.fromkeys((*KINDS, _PREDICTIONS), 0)
        self.all = dict.fromkeys((*KINDS, _PREDICTIONS), 0)

    def add(self, kind: str, right: int, count: int) -> None:
        """Count so many right ones of so many."""
        self.right[kind] += right
        self.all[kind] += count

    def percentages(self) -> dict[str, float]:
        """Percent right by kind; 0 for a kind that did not come up."""
        percentages = {}
        for kind, right in self.right.items():
            percentages[kind] = round(100 * right / max(self.all[kind], 1), 1)
        return percentages


def train_judge(settings: JudgeTrainingSettings, start: Path, prompts: Path, work: Path, out: Path) -> dict[str, float]:
    """Run all steps from the last checkpoint in `work`, then measure the model and write it with its card to `out`.

    `start`: folder of the policy that it begins with; `prompts`: folder of the prompt files of a language. Returns the
    percent of calls that it gets right, by kind.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(settings.seed)
    tokenizer = build_tokenizer(prompts)
    factory_lessons = lesson_settings(prompts, tokenizer)
    lessons = replace(factory_lessons, chunk_counts=_CHUNK_COUNTS, even_ratings=True)
    model = judge_from_policy(start, prompts, tokenizer, settings.layers).to(device)
    average = copy.deepcopy(model)  # a copy of the configuration too: it is measured with the ordinary attention
    model.set_attn_implementation(BRANCHED)
    optimizer = _optimizer(model, LlamaConfig.from_pretrained(start).num_hidden_layers)
    work.mkdir(parents=True, exist_ok=True)
    step, seconds_before = load_checkpoint(work, model, average, optimizer)
    started = time.monotonic() - seconds_before
    counts = _ReplyCounts()
    progress.expect(STAGE, settings.steps)
    progress.advance(STAGE, step)
    while step < settings.steps:
        run_share = step / settings.steps
        is_first, is_frozen = step < _FIRST_STEPS, step < _FROZEN_STEPS
        step_lessons = replace(lessons, small_share=1.0 if is_first else max(0.0, 0.9 - 1.8 * run_share))
        batches = judge_batches(step_lessons, f"judge:{settings.seed}:{step}", FIRST_PLAN if is_first else PLAN)
        learning_rate = (
            settings.learning_rate * learning_rate_share(step, run_share) * (1.0 if is_frozen else _LATER_SHARE)
        )
        inherited_group, new_group = optimizer.param_groups
        inherited_group["lr"] = learning_rate * (0.0 if is_frozen else _INHERITED_SHARE)
        new_group["lr"] = learning_rate
        loss = _train_step(model, optimizer, batches, device, counts)
        update_average(average, model, step)
        step += 1
        seconds = time.monotonic() - started
        progress.advance(STAGE)
        if step % _LOG_EVERY == 0:
            write_log(work, step=step, loss=round(loss, 3), seconds=round(seconds), right=counts.percentages())
            progress.note(STAGE, f"loss {loss:.2f}")
            counts = _ReplyCounts()
        if step % _SAVE_EVERY == 0 or step == settings.steps:
            save_checkpoint(work, model, average, optimizer, step, seconds)
    seconds = time.monotonic() - started
    return export_judge(average, factory_lessons, settings.seed, settings.steps, _start_text(start), out, step, seconds)


def judge_from_policy(folder: Path, prompts: Path, tokenizer: Any, layers: int) -> Any:
    """A Llama of so many layers that begins as the policy in `folder`. Random numbers are from torch's generator."""
    policy = LlamaForCausalLM.from_pretrained(folder)
    policy_layers, width = policy.config.num_hidden_layers, policy.config.hidden_size
    heads = (width + _IDENTITY) // policy.config.head_dim
    shape = {
        "hidden_size": width + _IDENTITY,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "num_hidden_layers": layers,
        "vocab_size": len(tokenizer),
    }
    model = LlamaForCausalLM(LlamaConfig.from_dict({**policy.config.to_dict(), **shape}))
    old, new = policy.state_dict(), model.state_dict()
    with torch.no_grad():
        vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
        inputs = _embeddings(old[_INPUT_EMBEDDINGS], vocabulary, tokenizer)
        outputs = _embeddings(old[_OUTPUT_EMBEDDINGS], vocabulary, tokenizer)
        _set_unread_words(inputs, prompts, tokenizer)
        projection = torch.linalg.qr(torch.randn(width, _IDENTITY - 1)).Q
        for name, weight in old.items():
            if name not in (_INPUT_EMBEDDINGS, _OUTPUT_EMBEDDINGS):
                _copy_widened(name, new[name], weight, width)
        identity = outputs @ projection
        new[_INPUT_EMBEDDINGS][:, :width] = inputs
        new[_INPUT_EMBEDDINGS][:, width:-1] = _IDENTITY_LENGTH * identity / identity.norm(dim=-1, keepdim=True)
        new[_INPUT_EMBEDDINGS][:, -1] = _CONSTANT
        new[_OUTPUT_EMBEDDINGS].zero_()[:, :width] = outputs
        new_layers = model.model.layers[policy_layers:]
        for layer in new_layers:
            _set_new_layer(layer, width)
        final_norm = old["model.norm.weight"]
        _look_for_predictions(new_layers[0].self_attn, projection, final_norm)
        ends = tokenizer.convert_tokens_to_ids([".", EOS])
        predicts_end = final_norm * outputs[ends].sum(dim=0)
        _look_back(new_layers[1].self_attn, predicts_end, float(policy.config.rope_parameters["rope_theta"]))
    return model


def is_inherited(name: str, policy_layers: int) -> bool:
    """Whether a parameter is the policy's part, which can read: its layers and the input embeddings."""
    if name == _INPUT_EMBEDDINGS:
        return True
    layers = (f"model.layers.{layer}." for layer in range(policy_layers))
    return name.startswith(tuple(layers))


def _start_text(start: Path) -> str:
    """What the judge began as, in words that are true on every machine."""
    in_the_box = start.resolve() == Path(resolve_model("microworld")).resolve()
    return "the policy in `infra/models/box/microworld`" if in_the_box else "another policy of the microworld"


def _optimizer(model: Any, policy_layers: int) -> torch.optim.Optimizer:
    """AdamW with two groups: the policy's part, and what is new."""
    inherited, new = [], []
    for name, parameter in model.named_parameters():
        if is_inherited(name, policy_layers):
            inherited.append(parameter)
        else:
            new.append(parameter)
    return torch.optim.AdamW([{"params": inherited}, {"params": new}], betas=(0.9, 0.98), weight_decay=0.05)


def _train_step(
    model: Any, optimizer: torch.optim.Optimizer, batches: Sequence[JudgeBatch], device: str, counts: _ReplyCounts
) -> float:
    """One step of AdamW over all batches of a step; returns the loss."""
    optimizer.zero_grad()
    loss = 0.0
    for batch in batches:
        loss += _add_gradients(model, batch, device, counts)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


def _add_gradients(model: Any, batch: JudgeBatch, device: str, counts: _ReplyCounts) -> float:
    """Returns the loss. Only tokens with a label are projected to the vocabulary, to save time."""
    is_labelled = batch.labels[:, 1:] != IGNORED
    labels, weights = batch.labels[:, 1:][is_labelled].to(device), batch.weights[:, 1:][is_labelled].to(device)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        hidden = model.model(
            input_ids=batch.tokens.to(device),
            position_ids=batch.positions.to(device),
            use_cache=False,
            shared=batch.shared,
            calls=batch.calls,
        ).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[is_labelled.to(device)])
    loss = (functional.cross_entropy(logits.float(), labels, reduction="none") * weights).sum()
    torch.autograd.backward(loss)
    _count_right(counts, batch, is_labelled, (logits.argmax(-1) == labels).cpu())
    return float(loss.item())


def _count_right(counts: _ReplyCounts, batch: JudgeBatch, is_labelled: torch.Tensor, is_right: torch.Tensor) -> None:
    """Count the replies of a batch, each right if all its tokens are, and its predictions.

    `is_labelled`: (1, length - 1), True where the next token has a label; `is_right`: one value for each of those.
    """
    is_reply = batch.replies[:, 1:][is_labelled]
    own = (batch.tokens.shape[1] - batch.shared) // batch.calls
    positions = torch.nonzero(is_labelled)[:, 1] + 1
    calls = (positions - batch.shared) // own
    wrong_calls = set(calls[is_reply & ~is_right].tolist())
    counts.add(batch.kind, batch.calls - len(wrong_calls), batch.calls)
    counts.add(_PREDICTIONS, int(is_right[~is_reply].sum()), int((~is_reply).sum()))


def _embeddings(old: torch.Tensor, vocabulary: dict[str, int], tokenizer: Any) -> torch.Tensor:
    """A row for each token of the tokenizer: the policy's row if it has one, else a random row of the same size."""
    rows = torch.randn(len(tokenizer), old.shape[1]) * old.std()
    for token, index in tokenizer.get_vocab().items():
        if token in vocabulary:
            rows[index] = old[vocabulary[token]]
    return rows


def _set_unread_words(rows: torch.Tensor, prompts: Path, tokenizer: Any) -> None:
    """Set the rows of all words that the policy never read to about the mean of the words of its prompts."""
    prompt_tokens: list[int] = []
    for path in sorted(prompts.glob("sample-*.txt")):
        prompt_tokens += encode(tokenizer, path.read_text(encoding="utf-8"))
    texts = [*ABOUT, *FILLER, *LEADS, "Passage Question: Answer: The of is and Facts: Reflection: Plan: find"]
    for names in NAMES.values():
        texts += names
    texts += map(str, range(1, 25))
    for relation in RELATIONS.values():
        texts += [relation.noun, *relation.statements, *relation.echoes, *relation.questions, *relation.list_questions]
    read = {*prompt_tokens, *tokenizer.convert_tokens_to_ids(list(SPECIAL))}
    for text in texts:
        read.update(encode(tokenizer, text))
        read.update(encode(tokenizer, f" {text}"))
    words = []
    for token in prompt_tokens:
        if len(tokenizer.convert_ids_to_tokens(token)) > 2:
            words.append(token)
    mean, deviation = rows[words].mean(dim=0), float(rows.std())
    for index in range(len(tokenizer)):
        if index not in read:
            rows[index] = mean + _NOISE * deviation * torch.randn_like(mean)


def _copy_widened(name: str, new: torch.Tensor, old: torch.Tensor, width: int) -> None:
    """Set a layer's weight to the policy's, so that it neither reads nor writes the identity dimensions."""
    if name.endswith("norm.weight"):  # the root mean square is now over more dimensions
        new.fill_(1.0)[:width] = old * (width / new.shape[0]) ** 0.5
        return
    has_new_head = name.split(".")[-2] in ("q_proj", "k_proj", "v_proj")
    new_head = new[width:] * 3  # its output is not used yet
    new.zero_()[: old.shape[0], : old.shape[1]] = old
    if has_new_head:
        new[width:] = new_head


def _set_new_layer(layer: Any, width: int) -> None:
    """Weights of a new layer that changes little at first and amplifies the identity dimensions."""
    attention = layer.self_attn
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight.normal_(0, _ATTENTION_STD)
    attention.o_proj.weight.normal_(0, _ATTENTION_OUT_STD)
    layer.mlp.down_proj.weight.normal_(0, _MLP_OUT_STD)
    for norm in (layer.input_layernorm, layer.post_attention_layernorm):
        norm.weight[width:] = _IDENTITY_SCALE


def _look_for_predictions(attention: Any, projection: torch.Tensor, final_norm: torch.Tensor) -> None:
    """The first head of a layer: from a word to the place where the policy would have predicted that word."""
    width, size = projection.shape
    attention.q_proj.weight[:_IDENTITY] = 0
    attention.q_proj.weight[:size, width : width + size] = torch.eye(size)
    attention.k_proj.weight[:_IDENTITY] = 0
    attention.k_proj.weight[:size, :width] = _KEY_SCALE * (final_norm[:, None] * projection).T


def _look_back(attention: Any, predicts_end: torch.Tensor, theta: float) -> None:
    """The first head of a layer: from every word to words about _TOKENS_BACK before it that end a sentence.

    `predicts_end`: the direction in which the policy predicts the end of a sentence. The rotations of the position
    embedding (base `theta`) turn queries against keys; the queries are set so that they agree at that distance.
    """
    half, width = _IDENTITY // 2, len(predicts_end)
    rotations = torch.arange(_ROTATIONS)
    angle = _TOKENS_BACK * theta ** (-rotations / half)
    attention.q_proj.weight[:_IDENTITY] = 0
    attention.k_proj.weight[:_IDENTITY] = 0
    attention.k_proj.weight[rotations, :width] = _BACK_SCALE * predicts_end
    attention.q_proj.weight[rotations, -1] = torch.cos(angle)
    attention.q_proj.weight[half + rotations, -1] = -torch.sin(angle)
