"""A question that compares two things, or more, by what is said of each."""

from tasks.asking.kind import QuestionKind
from tasks.asking.kinds.multi_hop import needs_two_sentences

KIND = QuestionKind("comparison", source="apart", test=needs_two_sentences, needs_each=True)
