"""A question for what was decided in a dialogue, or by an agent."""

from tasks.asking.kind import QuestionKind

KIND = QuestionKind("decision", source="long", histories=True)
