"""A question for what was asked or requested in a history and never answered or done.

That nobody answers cannot be seen from the turn that asks, so the proof alone does not answer it; the whole history
that stands in the row is what it is written from and checked on.
"""

from tasks.asking.kind import QuestionKind

KIND = QuestionKind("unanswered", source="whole", histories=True, from_proof=False)
