"""A question for the step of a trajectory, or the turn of a dialogue, that caused a later failure."""

from tasks.asking.kind import QuestionKind
from tasks.asking.kinds.change import needs_two_turns

KIND = QuestionKind("failure_cause", source="long", test=needs_two_turns, histories=True)
