"""A hook of mkdocs (mkdocs.yml): the site's first page is the README, and pages lead to files of the repository.

Inside docs/ a page names a file elsewhere in the repository by `../PATH`. Of these, a picture goes along to the site,
and any other file becomes its path in words.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_PICTURE = re.compile(r"(!\[[^\]]*\])\(\.\./([^)\s]+)\)")
_LINK = re.compile(r"\[([^\]]*)\]\(\.\./([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the README as index.md, and the pictures that lie outside docs/."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=readme))
    pictures = set()
    for page in sorted((ROOT / "docs").glob("*.md")):
        for match in _PICTURE.finditer(page.read_text(encoding="utf-8")):
            pictures.add(match.group(2))
    for picture in sorted(pictures):
        files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point pictures at their place in the site, and write other files of the repository as their paths."""
    markdown = _PICTURE.sub(r"\1(\2)", markdown)
    return _LINK.sub(_in_words, markdown)


def _in_words(link: re.Match[str]) -> str:
    text, path = link.groups()
    return text if path in text else f"{text} (`{path}`)"
