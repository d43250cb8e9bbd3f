"""Where the parts of a question stand in rows of a format that Longmill has no file for.

A path names a field: `question`, `question.text`, `messages.0.content` (counted from 0), `answers.*.text` (all of a
list).
"""

from pydantic import Field, model_validator

from infra.recipe.models import RecipeSection


class QuestionFields(RecipeSection):
    """Paths of a row's fields."""

    question: str | None = Field(None, description="path of the question")
    context: str = Field(
        description="path of the text that the question is about; with `*` its parts, joined by blank lines"
    )
    answers: str | None = Field(None, description="path of the reference answers: a text, a number or a list of them")
    choices: str | tuple[str, ...] | None = Field(
        None, description="path of a list of options, or a path for each; `answers` then names a letter or a text"
    )
    id: str | None = Field(None, description="path of the id; without it, it is derived from the content")
    kind: str | None = Field(None, description="path of the kind of question, by which reports tell them apart")
    language: str | None = Field(None, description="path of the row's language")
    template: str | None = Field(
        None,
        description="question of rows that have none, such as summaries: a text in which {path} stands for a field",
    )
    separator: str | None = Field(
        None,
        min_length=1,
        description="text between document and question where `context` holds both; the question follows the last one",
    )

    @model_validator(mode="after")
    def _check_question(self) -> "QuestionFields":
        if self.separator is not None and self.question is not None:
            raise ValueError("separator finds the question within `context`: leave `question` out, or the separator")
        if self.question is self.template is self.separator is None:
            raise ValueError("say where the question stands: give `question`, `separator` or `template`")
        return self
