"""How fast documents are read, by format, and whether memory stays flat: `python -m tests.bench.documents [MB]`.

Prints JSON: MB of UTF-8 text a minute of processor time (of all processes together, with language, near-duplicates and
all checks), for each format. With MB it measures memory instead: the peak of this process after each tenth of so many
megabytes of rows of 1 kB: what grows, grows by document.
"""

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infra.recipe import Documents
from tasks.documents import SourceDocument, read_documents
from tests.support.document_files import CHINESE_FONT, Section, web_page, write_docx, write_pdf

_WORDS = 20_000
_SENTENCES = 50_000
_DOCUMENT_SENTENCES = 120  # about 10 kB
_ROW_SENTENCES = 12
_FILES = {
    "txt": 400,
    "md": 400,
    "jsonl": 400,
    "parquet": 400,
    "html": 300,
    "pdf": 120,
    "pdf-zh": 60,
    "docx": 300,
}


def sentences(seed: int = 1) -> list[str]:
    """Different English sentences of made-up and common words."""
    rng = random.Random(seed)
    common = ("the", "of", "and", "to", "in", "is", "was", "for", "on", "that", "with", "as", "by", "at", "from", "his")
    letters = "etaoinshrdlucmfw"
    words = ["".join(rng.choices(letters, k=rng.randint(3, 10))) for _ in range(_WORDS)]
    results = []
    for _ in range(_SENTENCES):
        chosen = [rng.choice(common) if rng.random() < 0.4 else rng.choice(words) for _ in range(rng.randint(8, 20))]
        results.append(" ".join(chosen).capitalize() + ".")
    return results


def document_sections(pool: list[str], rng: random.Random) -> list[Section]:
    """A document of twelve sections."""
    sections: list[Section] = []
    for number in range(12):
        chosen = rng.choices(pool, k=_DOCUMENT_SENTENCES // 12)
        sections.append((f"Section {number} {chosen[0][:20]}", [" ".join(chosen[:5]), " ".join(chosen[5:])]))
    return sections


def plain(sections: list[Section]) -> str:
    """The sections as Markdown."""
    return "\n\n".join(f"## {name}\n\n" + "\n\n".join(paragraphs) for name, paragraphs in sections)


def write_files(folder: Path, form: str, count: int, pool: list[str]) -> None:
    """`count` documents of a format; of rows, one file."""
    rng = random.Random(form)
    folder.mkdir()
    documents = [document_sections(pool, rng) for _ in range(count)]
    writers: dict[str, Callable[[Path, list[Section]], Any]] = {
        "txt": lambda path, sections: path.write_text(plain(sections)),
        "md": lambda path, sections: path.write_text(plain(sections)),
        "html": lambda path, sections: path.write_text(web_page(sections, title=path.stem)),
        "pdf": write_pdf,
        "docx": write_docx,
    }
    if form == "jsonl":
        lines = [json.dumps({"text": plain(sections)}) + "\n" for sections in documents]
        (folder / "rows.jsonl").write_text("".join(lines))
    elif form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": [plain(sections) for sections in documents]}), folder / "rows.parquet")
    elif form == "pdf-zh":
        han = [chr(0x4E00 + rng.randrange(3000)) for _ in range(3000)]
        for number in range(count):
            text = ["".join(rng.choices(han, k=40)) + "。" for _ in range(80)]
            write_pdf(folder / f"{number:04}.pdf", [("标题", text)], font=CHINESE_FONT)
    else:
        for number, sections in enumerate(documents):
            writers[form](folder / f"{number:04}.{form}", sections)


def processor_s() -> float:
    """Processor time of this process and of those of its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def rate(folder: Path) -> dict[str, float]:
    """What reading a folder takes."""
    before, began = processor_s(), time.monotonic()
    size = documents = 0
    for outcome in read_documents(Documents(source=str(folder)), 1):
        if isinstance(outcome, SourceDocument):
            documents += 1
            size += len(outcome.text.encode())
    seconds = processor_s() - before
    return {
        "documents": documents,
        "text_mb": round(size / 1e6, 2),
        "processor_s": round(seconds, 2),
        "wall_s": round(time.monotonic() - began, 2),
        "mb_a_minute": round(size / 1e6 / seconds * 60, 1),
        "documents_a_second": round(documents / seconds, 1),
    }


def memory(path: Path, megabytes: int, pool: list[str]) -> Iterator[dict[str, float]]:
    """Peak memory after each tenth of a file of rows."""
    rng = random.Random(7)
    size = documents = 0
    with path.open("w") as file:
        while size < megabytes * 1e6:
            text = " ".join(rng.choices(pool, k=_ROW_SENTENCES))
            file.write(json.dumps({"text": text, "language": "en"}) + "\n")
            size, documents = file.tell(), documents + 1
    before = processor_s()
    for read, outcome in enumerate(read_documents(Documents(source=str(path)), 1), 1):
        assert isinstance(outcome, SourceDocument), outcome
        if read % (documents // 10) == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            yield {"documents": read, "peak_mib": round(peak), "processor_s": round(processor_s() - before, 1)}


def main() -> None:
    """Measure and print."""
    pool = sentences()
    with tempfile.TemporaryDirectory() as name:
        if len(sys.argv) > 1:
            for step in memory(Path(name) / "rows.jsonl", int(sys.argv[1]), pool):
                print(json.dumps(step), flush=True)
            return
        for form, count in _FILES.items():
            write_files(Path(name) / form, form, count, pool)
            print(json.dumps({form: rate(Path(name) / form)}), flush=True)


if __name__ == "__main__":
    main()
