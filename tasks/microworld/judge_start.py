"""The judge before its first lesson: the policy in a wider model, with new layers on top. It still reads as that does.

Four things let a small model learn to compare what is stated with what is claimed:

- Words that the policy never read (most of the judge's prompts) begin as the mean of the words of its own prompts, to
  which it pays no heed: with random ones it finds half as many of the values that passages state.
- _CLEAR dimensions more hold every word's identity, which the policy's layers overwrite within two of them. They are a
  projection of the output embeddings; none of the policy's layers reads or writes them at first.
- The first new layer's first head looks for where a word was foreseen: its queries are the clear dimensions, its keys
  the same projection of the policy's prediction. So it finds a value that a statement gives as the passages do.
- The second new layer's first head looks back from where a verdict is said to the end of what it is about.

All of it goes on learning. Leaves out how the judge is taught, see `train_judge`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tasks.microworld.words import ABOUT, FILLER, LEADS, RELATIONS
from tasks.microworld.tokenizer import EOS, SPECIAL
from tasks.microworld.words import NAMES

_CLEAR = 32  # dimensions, and the width of a head
_LENGTH = 0.4  # of a word in the clear dimensions: an embedding is about 1.2 long, and the policy is to see the same
_HEARD = 16.0  # how much louder new layers hear them: by then the rest is about 10 long
_SHARP = 2.0  # of the first head's keys: a foreseen word scores about 12, any other about 2
_CONSTANT = 0.2  # the last of the clear dimensions, the same for every word
_BACK, _PAIRS, _STEADY = 12.6, 8, 0.1  # tokens from a verdict to the last word that it is about; a peak 2 tokens wide
_NOISE = 0.1  # of a new word's embedding, as a share of what words differ by
_ATTENTION, _OUT, _MIXED = 0.06, 0.02, 0.01  # standard deviations of new layers' weights
_EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")


def judge_from_policy(folder: Path, prompts: Path, tokenizer: Any, layers: int) -> Any:
    """A Llama of so many layers that begins as the policy in `folder`. Random numbers are torch's own."""
    policy = LlamaForCausalLM.from_pretrained(folder)
    width = policy.config.hidden_size
    heads = (width + _CLEAR) // policy.config.head_dim
    shape = {"hidden_size": width + _CLEAR, "num_attention_heads": heads, "num_key_value_heads": heads}
    others = {"num_hidden_layers": layers, "vocab_size": len(tokenizer)}
    model = LlamaForCausalLM(LlamaConfig.from_dict({**policy.config.to_dict(), **shape, **others}))
    old, new = policy.state_dict(), model.state_dict()
    with torch.no_grad():
        known = AutoTokenizer.from_pretrained(folder).get_vocab()
        old |= {name: _words(old[name], known, tokenizer) for name in _EMBEDDINGS}
        _settle(old[_EMBEDDINGS[0]], prompts, tokenizer)
        clear = torch.linalg.qr(torch.randn(width, _CLEAR - 1)).Q
        for name in old.keys() - set(_EMBEDDINGS):
            _widen(name, new[name], old[name], width)
        named = old["lm_head.weight"] @ clear
        words = new["model.embed_tokens.weight"]
        words[:, :width] = old["model.embed_tokens.weight"]
        words[:, width:-1] = _LENGTH * named / named.norm(dim=-1, keepdim=True)
        words[:, -1] = _CONSTANT
        new["lm_head.weight"].zero_()[:, :width] = old["lm_head.weight"]
        for layer in model.model.layers[policy.config.num_hidden_layers :]:
            _prepare(layer, width)
        first, second = model.model.layers[policy.config.num_hidden_layers :][:2]
        norm, ends = old["model.norm.weight"], tokenizer.convert_tokens_to_ids([".", EOS])
        _look_for_foreseen(first.self_attn, clear, norm)
        ending = norm * old["lm_head.weight"][ends].sum(dim=0)
        _look_back(second.self_attn, ending, float(policy.config.rope_parameters["rope_theta"]))
    return model


def is_inherited(name: str, policy_layers: int) -> bool:
    """Whether a parameter holds what the policy knows of reading: its layers and the embeddings of words."""
    return name == _EMBEDDINGS[0] or any(name.startswith(f"model.layers.{each}.") for each in range(policy_layers))


def _words(old: torch.Tensor, known: dict[str, int], tokenizer: Any) -> torch.Tensor:
    """A row for each word of the tokenizer: the policy's where it has one, else a random one of the same size."""
    rows = torch.randn(len(tokenizer), old.shape[1]) * old.std()
    for token, index in tokenizer.get_vocab().items():
        if token in known:
            rows[index] = old[known[token]]
    return rows


def _settle(rows: torch.Tensor, prompts: Path, tokenizer: Any) -> None:
    """Set the rows of all words that the policy never read to about the mean of its instructions' words."""

    def ids(text: str) -> list[int]:
        return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)

    asked = [token for path in sorted(prompts.glob("sample-*.txt")) for token in ids(path.read_text(encoding="utf-8"))]
    texts = [*ABOUT, *FILLER, *LEADS, "Passage Question: Answer: The of is and Facts: Reflection: Plan: find"]
    texts += [name for names in NAMES.values() for name in names] + [str(number) for number in range(1, 25)]
    for each in RELATIONS.values():
        texts += [each.noun, *each.statements, *each.echoes, *each.questions, *each.list_questions]
    read = {*asked, *(token for text in texts for form in (text, f" {text}") for token in ids(form))}
    read |= set(tokenizer.convert_tokens_to_ids(list(SPECIAL)))
    words = [token for token in asked if len(tokenizer.convert_ids_to_tokens(token)) > 2]
    mean, spread = rows[words].mean(dim=0), float(rows.std())
    for index in set(range(len(tokenizer))) - read:
        rows[index] = mean + _NOISE * spread * torch.randn_like(mean)


def _widen(name: str, new: torch.Tensor, old: torch.Tensor, width: int) -> None:
    """Set a layer's weight to the policy's, so that it neither reads nor writes the clear dimensions."""
    if name.endswith("norm.weight"):  # of a root mean square over more dimensions
        new.fill_(1.0)[:width] = old * (width / new.shape[0]) ** 0.5
        return
    fresh = new[width:] * 3 if name.split(".")[-2] in ("q_proj", "k_proj", "v_proj") else None
    new.zero_()[: old.shape[0], : old.shape[1]] = old
    if fresh is not None:
        new[width:] = fresh  # a head more, whose output is not used yet


def _prepare(layer: Any, width: int) -> None:
    """A new layer that adds little at first, and hears the clear dimensions."""
    attention = layer.self_attn
    for weight in (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight):
        weight.normal_(0, _ATTENTION)
    attention.o_proj.weight.normal_(0, _OUT)
    layer.mlp.down_proj.weight.normal_(0, _MIXED)
    for norm in (layer.input_layernorm, layer.post_attention_layernorm):
        norm.weight[width:] = _HEARD


def _look_for_foreseen(attention: Any, clear: torch.Tensor, norm: torch.Tensor) -> None:
    """The first head of a layer: from a word to where the policy would have gone on with it."""
    width, size = clear.shape
    attention.q_proj.weight[:_CLEAR] = 0
    attention.q_proj.weight[:size, width : width + size] = torch.eye(size)
    attention.k_proj.weight[:_CLEAR] = 0
    attention.k_proj.weight[:size, :width] = _SHARP * (norm[:, None] * clear).T


def _look_back(attention: Any, ends: torch.Tensor, theta: float) -> None:
    """The first head of a layer: from every word to those about _BACK before it that the policy would end a sentence
    after. Rotations by position turn queries and keys against each other: here they meet at that distance."""
    half, width = _CLEAR // 2, len(ends)
    pairs = torch.arange(_PAIRS)
    angle = _BACK * theta ** (-pairs / half)
    attention.q_proj.weight[:_CLEAR] = 0
    attention.k_proj.weight[:_CLEAR] = 0
    attention.k_proj.weight[pairs, :width] = _STEADY * ends
    attention.q_proj.weight[pairs, -1] = torch.cos(angle)
    attention.q_proj.weight[half + pairs, -1] = -torch.sin(angle)
