"""The language of a document: as it states it, else by py3langid, from its beginning and its middle."""

from tasks.documents.extra import load_library

_SAMPLE = 1_000  # characters


def detect_language(text: str, stated: str = "") -> str:
    """A two-letter code. Raises PrerequisiteError without the library."""
    code = stated.strip().lower().replace("_", "-").split("-")[0]
    if len(code) == 2 and code.isalpha():
        return code
    middle = len(text) // 2
    sample = text[:_SAMPLE] if len(text) <= 2 * _SAMPLE else text[:_SAMPLE] + text[middle : middle + _SAMPLE]
    library = load_library("py3langid", "telling a document's language")
    return str(library.classify(sample)[0])
