"""A question on the document's own subject that the document does not answer."""

from collections.abc import Sequence

from tasks.asking.kind import QuestionKind


def says_not_stated(answers: Sequence[str], reply: str) -> bool:
    """The right reply is that the passages do not say it, which the checks read as an empty text."""
    return not reply.strip()


KIND = QuestionKind("unanswerable", source="whole", same=says_not_stated, answered=False)
