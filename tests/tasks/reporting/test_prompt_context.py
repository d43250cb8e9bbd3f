"""The context of a published pair is found in its prompt by its hash, and no other text passes for it."""

import pytest

from infra.canonical import text_id
from tasks.reporting.prompt_context import context_in
from tests.support.longreward import CONTEXT, QUESTION


def row(context: str = CONTEXT) -> dict[str, str]:
    return {"strategy": "default", "language": "en", "question": QUESTION, "context_id": text_id(context)}


def messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]


@pytest.mark.parametrize("context", [CONTEXT, "one line", "\n\nedges\n\n", "Question: {question}\n\nx\n\nQuestion: y"])
def test_a_context_is_found_under_another_prompt_than_todays(context: str) -> None:
    for before, after in (("Another text.\nRead:\n", f"\nNow: {QUESTION}\nGo."), ("", ""), ("a\n" * 60, "\nb" * 60)):
        assert context_in(messages(f"{before}{context}{after}"), row(context)) == context


def test_no_other_text_passes_for_the_context() -> None:
    prompt = f"Read the following text and answer the question at the end of it.\n\n{CONTEXT}x\n\nQuestion: {QUESTION}"
    assert context_in(messages(prompt), row()) is None
    assert context_in(messages(prompt), row() | {"strategy": "../../secret"}) is None
