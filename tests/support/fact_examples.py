"""The graded examples of the prompts that list facts: answers cut into sentences, and the statements listed of them."""

import re
from dataclasses import dataclass

from tasks.judging.replies import read_facts
from tasks.prompts import load_prompt

LAST = {"en": "Reply:", "zh": "答复："}
_ENDS = {"en": r"(?<=[.!?])\s+|(?<=:)\n+", "zh": r"(?<=[。！？])(?!”)|(?<=。”)|(?<=：)\n+"}
_STEP = re.compile(r"^(?:\d+\.\s+|Step \d: |Yes, |第.步：|提到了，)")


@dataclass(frozen=True, slots=True)
class FactExample:
    """One graded example."""

    question: str
    sentences: tuple[str, ...]  # of the answer, without marks of lists and steps
    statements: tuple[str, ...]


def fact_examples(prompt: str, language: str) -> list[FactExample]:
    """The examples of a prompt file, in their order."""
    examples = []
    for text in re.findall(r"<example>\n(.*?)\n</example>", load_prompt(prompt, language).text, re.DOTALL):
        material, reply = text.split(f"\n\n{LAST[language]}\n")
        question, answer = (_inside(material, tag) for tag in ("question", "answer"))
        examples.append(FactExample(question, tuple(sentences(answer, language)), read_facts(reply)))
    return examples


def sentences(text: str, language: str) -> list[str]:
    """The sentences of a text, and items of a list; a line that ends with a colon is one too."""
    pieces = []
    for paragraph in re.split(r"\n+", text):
        for sentence in re.split(_ENDS[language], paragraph.strip()):
            if language == "en" and re.fullmatch(r"\d+\.", sentence.strip()):
                continue  # the number of an item
            pieces.append(_STEP.sub("", sentence.strip()))
    return [piece for piece in pieces if piece]


def _inside(text: str, tag: str) -> str:
    (value,) = re.findall(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)
    return str(value)
