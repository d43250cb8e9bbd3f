"""What a reward model reads: a conversation through its tokenizer's chat template, as token ids, of any length.

Training, scoring here and the stock classes of transformers read the same ids. Special tokens of the tokenizer are
broken up in every text (`classifier_input.py`). The conversations of a question differ in their answers alone:
`common_prefix` says how far they are the same. Nothing is cut.
"""

from collections.abc import Mapping, Sequence

from infra.errors import RecipeError
from infra.models.tokens import Tokenizer
from infra.recipe import Recipe
from tasks.judging.classifier_input import TextEncoder
from tasks.questions.chat import flat_messages
from tasks.records.example import Context, Example
from tasks.sample_prompt import sample_prompt

Messages = Sequence[Mapping[str, str]]


def question_messages(example: Example, context: Context | None, recipe: Recipe) -> list[dict[str, str]]:
    """The messages before the answer: the question alone, or with the whole context, as the policy was asked, but for
    tool calls, which are text."""
    if context is None:
        return [{"role": "user", "content": example.question}]
    prompt = sample_prompt(example, context, recipe.sampling.strategy, recipe.policy)
    return flat_messages(prompt.messages, example.language)


class RewardEncoder:
    """Renders and encodes the conversations that one reward model reads."""

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        """`name` is the model's, for messages."""
        self._tokenizer = tokenizer
        self._name = name
        self._texts = TextEncoder(tokenizer)

    def rows(self, prompt: Messages, answers: Sequence[str]) -> list[list[int]]:
        """The token ids of the conversation with each answer. Raises RecipeError when the chat template refuses it."""
        from jinja2 import TemplateError

        messages = [{**message, "content": self._texts.plain(message["content"])} for message in prompt]
        texts = []
        for answer in answers:
            conversation = [*messages, {"role": "assistant", "content": self._texts.plain(answer)}]
            try:
                texts.append(self._tokenizer.apply_chat_template(conversation, tokenize=False))
            except (TemplateError, ValueError) as error:
                raise RecipeError(
                    f"{self._name}: its chat template is of no use ({error}); take another model"
                ) from error
        return self._texts.conversations(texts)
