"""A question whose answer is one fact, stated in one place."""

from tasks.asking.kind import QuestionKind

KIND = QuestionKind("single_fact", source="one")
