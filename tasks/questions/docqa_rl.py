"""DocQA-RL (Wan et al., 2025, "QwenLong-L1"): prompts for reinforcement learning, with a checked answer.

    {"data_source", "prompt": [{"role": "user", "content": "... <text>\\nDOCUMENT\\n</text>\\n\\nQUESTION"}], "ability",
     "reward_model": {"style", "ground_truth"}, "extra_info"}

What stands between <text> and </text> is the context, what follows is the question, but for the paragraph that asks
for a form of the answer: the recipe's sampling prompt does that.
"""

import re
from collections.abc import Mapping
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    answers_field,
    fault,
    language_of,
    make_question,
    metadata_of,
)

_FIELDS = {"prompt", "reward_model"}
_PARTS = re.compile(r"<text>\s*(.*)\s*</text>\s*(.*)", re.DOTALL)
_ANSWER_FORM = re.compile(r"\n+Format your (?:response|answer) as follows:.*\Z", re.DOTALL)


def read_docqa_rl(row: SourceRow, language: str) -> RawQuestion:
    """A row of DocQA-RL. Its id is derived."""
    prompt = row.values.get("prompt")
    message = prompt[-1] if isinstance(prompt, (list, tuple)) and prompt else None
    content = message.get("content") if isinstance(message, Mapping) else None
    parts = _PARTS.search(content) if isinstance(content, str) else None
    if parts is None:
        problem = "holds no message with a document between <text> and </text>"
        raise fault(row, "prompt", problem, "name its parts with `questions.fields`")
    context, question = parts.groups()
    question = _ANSWER_FORM.sub("", question).strip()
    reward = row.values.get("reward_model")
    truth = reward if isinstance(reward, Mapping) else {}
    return make_question(
        None,
        question,
        language_of(row, question, language),
        context=context.rstrip(),
        references=answers_field(SourceRow(row.file, row.number, truth), "ground_truth"),
        metadata=metadata_of(row, _FIELDS),
    )


def _fits(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("prompt"), list) and isinstance(values.get("reward_model"), Mapping)


FORMAT = QuestionFormat("docqa_rl", read_docqa_rl, "DocQA-RL and like prompts with a ground truth", _fits)
