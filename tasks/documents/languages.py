"""The language of a document."""


def detect_language(text: str, stated: str = "") -> str:
    """A two-letter code: as the document states it, else as its text shows."""
    if stated:
        return stated.strip().lower().replace("_", "-").split("-")[0]
    letters = list(filter(str.isalpha, text[:4000]))
    han = sum("\u4e00" <= character <= "\u9fff" for character in letters)
    return "zh" if letters and 3 * han >= len(letters) else "en"
