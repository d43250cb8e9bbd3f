"""How plain the code is, counted over flows/, tasks/ and infra/: `python -m tests.house.plain_words [FOLDER]`.

The ten words are pronouns and participles that say nothing of what a name stands for. They are counted as identifiers:
variables, parameters, attributes, functions, classes and keyword arguments. A line is any line of a file.
"""

import ast
import math
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("flows", "tasks", "infra")
TEN_WORDS = frozenset(("each", "found", "said", "told", "asked", "known", "shown", "wanted", "kept", "held"))
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Counts:
    """What was counted; lengths are numbers of lines."""

    file_lengths: list[int] = field(default_factory=list)
    function_lengths: list[int] = field(default_factory=list)
    ten_words: Counter[str] = field(default_factory=Counter)
    comprehensions: int = 0
    several_fors: int = 0  # comprehensions with more than one `for`
    comments: int = 0
    public_functions: int = 0
    documented: int = 0  # of the public functions

    @property
    def lines(self) -> int:
        return sum(self.file_lengths)


def source_files(root: Path = ROOT) -> list[Path]:
    """The Python files of the three packages."""
    files: list[Path] = []
    for package in PACKAGES:
        files += sorted((root / package).rglob("*.py"))
    return files


def count_files(paths: Sequence[Path]) -> Counts:
    """All counts of some files together."""
    counts = Counts()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        counts.file_lengths.append(len(text.splitlines()))
        counts.ten_words.update(name for _, name in ten_words_in(tree))
        counts.comments += _comments_in(path)
        for node in ast.walk(tree):
            if isinstance(node, COMPREHENSIONS):
                counts.comprehensions += 1
                counts.several_fors += len(node.generators) > 1
            elif isinstance(node, FUNCTIONS):
                assert node.end_lineno is not None
                counts.function_lengths.append(node.end_lineno - node.lineno + 1)
        for function in _public_functions(tree):
            counts.public_functions += 1
            counts.documented += ast.get_docstring(function) is not None
    return counts


def ten_words_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, word) for each of the ten words that is an identifier of the tree."""
    for node in ast.walk(tree):
        name = None
        if isinstance(node, ast.Name):
            name = node.id
        elif isinstance(node, ast.arg | ast.keyword):
            name = node.arg
        elif isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = node.name
        if name in TEN_WORDS:
            yield node.lineno, name


def _public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of the module and methods of its classes, where no name begins with an underscore."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        for member in members:
            if isinstance(member, FUNCTIONS) and not member.name.startswith("_"):
                yield member


def _comments_in(path: Path) -> int:
    with path.open("rb") as file:
        return sum(token.type == tokenize.COMMENT for token in tokenize.tokenize(file.readline))


def _median_and_p90(lengths: Sequence[int]) -> str:
    ordered = sorted(lengths)
    ninetieth = ordered[math.ceil(0.9 * len(ordered)) - 1]
    return f"{statistics.median(ordered):.0f} / {ninetieth}"


def report(counts: Counts) -> list[tuple[str, str]]:
    """The rows of the table: (what, figure)."""
    words = counts.ten_words.total()
    rows = [
        ("files", f"{len(counts.file_lengths)}"),
        ("lines", f"{counts.lines:,}"),
        ("file lines, median / p90", _median_and_p90(counts.file_lengths)),
        ("function lines, median / p90", _median_and_p90(counts.function_lengths)),
        ("ten words as identifiers", f"{words}"),
        ("ten words in 100 lines", f"{100 * words / counts.lines:.2f}"),
        ("comprehensions in 100 lines", f"{100 * counts.comprehensions / counts.lines:.2f}"),
        ("comprehensions with several for in 1,000 lines", f"{1000 * counts.several_fors / counts.lines:.2f}"),
        ("comments in 100 lines", f"{100 * counts.comments / counts.lines:.2f}"),
        ("public functions documented", f"{100 * counts.documented / counts.public_functions:.0f}%"),
    ]
    for word, count in counts.ten_words.most_common():
        rows.append((f"  {word}", f"{count}"))
    return rows


def main() -> None:
    """Print the table for the folder of the first argument, or for this checkout."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    for name, figure in report(count_files(source_files(root))):
        print(f"{name:<48}{figure:>10}")


if __name__ == "__main__":
    main()
