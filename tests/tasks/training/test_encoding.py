"""Special tokens in a text are encoded as plain text by every kind of tokenizer, and all else as it was."""

from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from infra.errors import TrainingError
from tasks.training.gate import EncodedTree, gate
from tests.support.tiny_model import TEMPLATE, pair_row, tiny_tokenizer

SPECIAL = ("<unk>", "<bos>", "<eos>", "<user>", "<assistant>")
LETTERS = [chr(code) for code in range(33, 127)] + ["▁", "Ġ"]


def _finished(core: Tokenizer) -> Any:
    from transformers import PreTrainedTokenizerFast

    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def like_llama(prepend: str) -> Any:
    """BPE over words that begin with ▁, before the first word alone or after every special token."""
    vocabulary = {token: place for place, token in enumerate([*SPECIAL, *LETTERS, "▁b", "os", "bos", "▁bos"])}
    merges = [("▁", "b"), ("o", "s"), ("b", "os"), ("▁", "bos")]
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=False)
    core.decoder = decoders.Metaspace(prepend_scheme=prepend, split=False)
    return _finished(core)


def unigram() -> Any:
    """Its special tokens are pieces of its vocabulary."""
    pieces = [(token, 0.0) for token in SPECIAL] + [(letter, -5.0) for letter in LETTERS]
    core = Tokenizer(models.Unigram(pieces, unk_id=0))
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    core.decoder = decoders.Metaspace(prepend_scheme="always")
    return _finished(core)


def word_level() -> Any:
    """Its special tokens are words of its vocabulary, and a text may have them between blanks."""
    words = [*SPECIAL, "read", "what", "said", "nothing", "yes"]
    core = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _finished(core)


KINDS = {
    "bytes": tiny_tokenizer,
    "first": lambda: like_llama("first"),
    "always": lambda: like_llama("always"),
    "unigram": unigram,
    "words": word_level,
}


def trees_of(tokenizer: Any, *rows: dict[str, Any]) -> list[EncodedTree]:
    trees: list[EncodedTree] = []
    gate(rows, tokenizer, 1000, add=trees.append)
    return trees


@pytest.mark.parametrize("kind", KINDS)
def test_a_special_token_in_a_text_is_text(kind: str) -> None:
    tokenizer = KINDS[kind]()
    control = {tokenizer.convert_tokens_to_ids(token) for token in SPECIAL} - {tokenizer.unk_token_id}
    nasty = "read <eos> what <user> said <assistant> nothing"
    (tree,) = trees_of(tokenizer, pair_row(0, nasty, f"yes {nasty}", "nothing"))
    ids = [tree.prompt_ids, *tree.answers]
    names = [tokenizer.convert_ids_to_tokens([token for token in part if token in control]) for part in ids]
    assert names == [["<bos>", "<user>", "<assistant>"], ["<eos>"], ["<eos>"]]
    if kind != "words":  # it knows no letters
        text = tokenizer.decode(tree.prompt_ids + tree.answers[0]).replace(" ", "")
        assert text == f"<bos><user>{nasty}<assistant>yes {nasty}<eos>".replace(" ", "")


@pytest.mark.parametrize("kind", KINDS)
def test_all_else_is_encoded_as_by_the_tokenizer(kind: str) -> None:
    """A row is read by the copy of the tokenizer when an answer holds a special token; its prompt must be the same."""
    tokenizer = KINDS[kind]()
    prompt = "read  what bos said\n nothing "
    plain, marked = trees_of(
        tokenizer, pair_row(0, prompt, "yes bos", "nothing"), pair_row(1, f"{prompt}<eos>", "yes bos", "nothing")
    )
    assert plain.prompt_ids == tokenizer(f"<bos><user>{prompt}<assistant>", add_special_tokens=False)["input_ids"]
    assert marked.answers == plain.answers
    assert marked.prompt_ids[: len(plain.prompt_ids) - 2] == plain.prompt_ids[:-2]


@pytest.mark.parametrize("kind", ["bytes", "first"])
def test_private_characters_beside_a_special_token_are_read_as_they_are(kind: str) -> None:
    """They stand for special tokens of other texts, and must not be read as those."""
    tokenizer = KINDS[kind]()
    text = "an icon: \U000f0000\U000f0001\U00100000\U00100002"
    plain, marked = trees_of(tokenizer, pair_row(0, text, "yes", "no"), pair_row(1, f"{text} <eos>", "yes", "no"))
    assert kind != "bytes" or text in tokenizer.decode(plain.prompt_ids)
    assert marked.prompt_ids[: len(plain.prompt_ids) - 1] == plain.prompt_ids[:-1]
    assert marked.answers == plain.answers
    # The names that the text made necessary are not those of the next one.
    (after,) = trees_of(tokenizer, pair_row(2, "an icon <eos>", "yes", "no"))
    assert "<eos>" in tokenizer.decode(after.prompt_ids)


def test_a_text_with_all_private_characters_and_a_special_token_is_refused() -> None:
    text = "".join(map(chr, range(0xF0000, 0xFFFFE)))
    with pytest.raises(TrainingError, match=r"private planes.*take these characters out"):
        trees_of(tiny_tokenizer(), pair_row(0, f"{text} <eos>", "yes", "no"))


def test_a_tokenizer_without_a_file_of_its_own_refuses_such_a_text() -> None:
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}</s>{% endfor %}"
    trees_of(tokenizer, pair_row(0, "read", "yes", "no"))
    with pytest.raises(TrainingError, match="cannot read as plain text; take it out"):
        trees_of(tokenizer, pair_row(0, "read </s>", "yes", "no"))
