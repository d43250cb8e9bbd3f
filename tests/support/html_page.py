"""An HTML page as a reader of its tags and text sees it."""

from collections.abc import Collection
from html.parser import HTMLParser


class HtmlPage(HTMLParser):
    """The tags of a page with their attributes, and its text; the tags of `spaced` put a space before theirs."""

    def __init__(self, page: str, spaced: Collection[str] = ()) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._spaced = spaced
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " " if tag in self._spaced else ""

    def handle_data(self, data: str) -> None:
        self.text += data
