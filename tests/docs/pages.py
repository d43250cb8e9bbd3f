"""The pages of the documentation, cut into what tests look at: fenced blocks, prose, links, headings.

A block is fenced with ``` and a language. HTML comments on the lines right above it say how it is tested:

    <!-- file: questions.jsonl -->           the block is a file of this name
    <!-- transcript: make demo, DATE -->     printed once by this command, too long to repeat; what it says is not run
    <!-- not run: REASON -->                 commands that are only checked, not run
    <!-- tested by: tests/... -->            another test runs these commands
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMENTS = ("file", "transcript", "not run", "tested by")

_COMMENT = re.compile(r"<!-- ([a-z ]+): (.+) -->")
_FENCE = "```"
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first fence, `comments` the words above it."""

    page: Path
    line: int
    language: str
    text: str
    comments: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        """True for commands that the test runs."""
        return self.language == "console" and not self.comments

    @property
    def file(self) -> str | None:
        """The file that the block is, by its first line (`# my-recipe.yaml`) or the comment above it."""
        first = self.text.partition("\n")[0]
        named = re.fullmatch(r"# ([\w./-]+\.(?:yaml|py))", first)
        return named.group(1) if named else self.comments.get("file")


@dataclass(frozen=True)
class Command:
    """A command of a console block, and the lines that it prints there."""

    words: str
    output: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    page_blocks: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    comments: dict[str, str] = {}
    start: int | None = None
    for number, line in enumerate(lines):
        if start is not None:
            if line == _FENCE:
                language = lines[start].removeprefix(_FENCE)
                page_blocks.append(
                    Block(page, start + 1, language, "\n".join(lines[start + 1 : number]) + "\n", comments)
                )
                start, comments = None, {}
        elif line.startswith(_FENCE):
            start = number
        elif comment := _COMMENT.fullmatch(line):
            comments[comment.group(1)] = comment.group(2)
        else:
            comments = {}
    assert start is None, f"{page}: the block of line {start} has no end"
    return page_blocks


def all_blocks() -> list[Block]:
    """The fenced blocks of all pages."""
    every_block: list[Block] = []
    for page in PAGES:
        every_block += blocks(page)
    return every_block


def commands(block: Block) -> list[Command]:
    """The commands of a console block (lines with "$ ", continued after a backslash), each with its output."""
    block_commands: list[Command] = []
    lines = iter(block.text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            words = line.removeprefix("$ ")
            while words.endswith("\\"):
                words = words.removesuffix("\\") + next(lines).strip()
            block_commands.append(Command(re.sub(r"\s+#.*", "", words), ()))
        elif block_commands:
            block_commands[-1] = Command(block_commands[-1].words, (*block_commands[-1].output, line))
    return block_commands


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    text_lines: list[str] = []
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith(_FENCE):
            inside = not inside
        elif not inside:
            text_lines.append(line)
    return "\n".join(text_lines)


def links(page: Path) -> list[str]:
    """Targets of links and images."""
    return _LINK.findall(prose(page))


def code(page: Path) -> list[str]:
    """What stands between single backticks."""
    return _CODE.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
