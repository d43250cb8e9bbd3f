"""Documents to ask questions about: where they are, and which of them are used."""

from pydantic import Field, model_validator

from infra.recipe.models import Fraction, Positive, RecipeSection


class Documents(RecipeSection):
    """Where documents come from, and which of them are used."""

    source: str = Field(
        description="folder, pattern (`books/**/*.pdf`), file or hub name; a path or any fsspec URL. "
        "`longmill documents` lists the formats"
    )
    subset: str | None = Field(None, description="configuration of a hub dataset")
    split: str = Field("train", description="split of a `datasets` folder or hub dataset")
    text_column: str = Field("text", description="field of the text in rows (JSONL, Parquet, hub)")
    title_column: str = Field("title", description="field of the title in rows, which may be absent")
    languages: tuple[str, ...] = Field(
        ("en", "zh"), min_length=1, description="languages of the documents that are used, as two-letter codes"
    )
    min_characters: Positive = Field(200, description="shorter documents are dropped")
    max_characters: Positive | None = Field(None, description="longer documents are dropped; null: none is")
    near_duplicates: Fraction | None = Field(
        0.8,
        description="a document that has at least this share of its words' sequences in common with an earlier one is "
        "dropped (MinHash, Jaccard); null: only equal texts are",
    )
    limit: Positive | None = Field(None, description="use at most so many documents, from the first")
    licence: str = Field("", description="licence id of the documents for the card, as you state it")

    @model_validator(mode="after")
    def _check_lengths(self) -> "Documents":
        if self.max_characters is not None and self.min_characters > self.max_characters:
            raise ValueError("min_characters is larger than max_characters")
        return self
