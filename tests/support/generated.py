"""Tokenizers of several kinds with a chat template, and the questions of generated suites."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.models.forms.request_form import template_arguments
from infra.models.special_tokens import own_special_tokens
from infra.models.tokens import Tokenizer, load_tokenizer, prompt_tokens
from infra.recipe import Recipe
from tasks.evaluation.suites import SuiteQuestion, find_suite
from tasks.library import library_articles
from tasks.prompts import load_prompt
from tasks.sample_prompt import prompt_from
from tests.support.planning import small_recipe

TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TOKENIZERS = ("byte_level", "sentencepiece", "microworld")


@functools.cache
def tokenizer_named(name: str) -> Tokenizer:
    """Byte-level BPE as in Qwen and Llama 3, Unigram over whole texts as SentencePiece makes it, or words."""
    if name == "microworld":
        return load_tokenizer("microworld")
    from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

    texts = [article.text for language in ("en", "zh") for article in library_articles(language).values()]
    special = ["<unk>", "<|user|>", "<|assistant|>"]
    trainer: Any
    if name == "byte_level":
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=3000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        backend = Backend(models.Unigram())
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=4000, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    backend.train_from_iterator(texts[:60] + texts[-40:], trainer)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special[1:]])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", clean_up_tokenization_spaces=False)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def generated_questions(
    folder: Path, suite: str, tokenizer: Tokenizer, window: int = 65_536, **settings: Any
) -> list[SuiteQuestion]:
    """The questions of a suite with these settings."""
    found = find_suite(suite)
    assert found.generate is not None
    recipe = generating_recipe(folder, window)
    return list(found.generate(found.settings.model_validate(settings), recipe, tokenizer))


def generating_recipe(folder: Path, window: int = 65_536) -> Recipe:
    """A recipe for a model with such a window."""
    return small_recipe(folder, policy={"context_window": window})


def whole_prompt_tokens(question: SuiteQuestion, recipe: Recipe, tokenizer: Tokenizer) -> int:
    """Tokens of a question's prompt as it is sent, all of it counted."""
    suite_prompt = load_prompt("sample-direct_answer", question.example.language)
    own = own_special_tokens(tokenizer)
    prompt = prompt_from(suite_prompt, question.example, question.context, recipe.policy, own)
    arguments: Mapping[str, Any] = template_arguments(recipe.policy)
    return prompt_tokens(tokenizer, [prompt.messages], (), arguments)[0]
