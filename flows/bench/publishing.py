"""Publishing a plan whose shards are finished: from the parts that shards wrote, and from the shards' tables.

The shards are made up (finished_shards.py), and of many most repeat the tables of a few, under names of their own. What
a shard writes itself is timed apart, because workers do it at once.
Processor seconds stand beside those of the clock, as the machine may be busy.
"""

import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flows.bench.finished_shards import finished_plan, finished_recipe, repeat_part
from infra.recipe import Recipe
from infra.store import Store, open_store
from tasks.publishing import publish
from tasks.records.part import ShardPart
from tasks.records.plan import Plan, load_shard
from tasks.records.shard import ShardResult
from tasks.shard_part import write_shard_part

SAMPLES = 8
_THREADS = 16  # that write repeated shards


def measure(
    shards: int = 10_000, table_shards: int = 50, questions: int = 64, context_characters: int = 32_000, url: str = ""
) -> dict[str, Any]:
    """Seconds of publishing `shards` from parts and `table_shards` from tables, in a folder or the store at `url`."""
    with tempfile.TemporaryDirectory() as folder:
        place = url or folder
        publish_few = _Publishing(f"{place}/few", table_shards, questions, context_characters, table_shards)
        from_tables = publish_few.timed()
        part_seconds = publish_few.write_parts()
        publish_few.remove_dataset()
        few_from_parts = publish_few.timed()
        many = _Publishing(f"{place}/many", shards, questions, context_characters, table_shards)
        many.write_parts()
        from_parts = many.timed()
    return {
        "questions": questions,
        "samples": SAMPLES,
        "context_characters": context_characters,
        "from_tables": {"shards": table_shards, **from_tables},
        "from_parts": [{"shards": table_shards, **few_from_parts}, {"shards": shards, **from_parts}],
        "same_manifest": from_tables["sha256"] == few_from_parts["sha256"],
        "part_processor_s": round(part_seconds / table_shards, 4),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


class _Publishing:
    """A plan of finished shards in a store of its own."""

    def __init__(self, url: str, shards: int, questions: int, context_characters: int, different: int) -> None:
        self._store: Store = open_store(url)
        self._recipe: Recipe = finished_recipe(url, SAMPLES)
        self._plan: Plan
        self._results: list[ShardResult]
        self._different = different
        self._plan, self._results = finished_plan(
            self._store, self._recipe, shards, questions, context_characters, different
        )

    def write_parts(self) -> float:
        """Write the part of each shard; returns the processor seconds of those that have tables of their own."""
        start = time.process_time()
        parts: list[ShardPart] = []
        for result in self._results[: self._different]:
            examples, contexts = load_shard(self._store, self._plan, result.shard)
            parts.append(write_shard_part(self._plan, result, self._recipe, self._store, examples, contexts))
        seconds = time.process_time() - start
        with ThreadPoolExecutor(_THREADS) as pool:
            for result in self._results[self._different :]:
                pool.submit(repeat_part, self._store, result, parts[result.shard % self._different])
        return seconds

    def timed(self) -> dict[str, Any]:
        """Publish; seconds by the clock and of the processor."""
        start, processor = time.monotonic(), time.process_time()
        published = publish(self._plan, self._results, self._recipe, self._store)
        return {
            "seconds": round(time.monotonic() - start, 2),
            "processor_s": round(time.process_time() - processor, 2),
            "sha256": published.sha256,
        }

    def remove_dataset(self) -> None:
        """Remove what was published."""
        self._store.delete(*self._store.list("datasets"))
