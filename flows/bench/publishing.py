"""Seconds of publishing a plan whose shards are finished: from the parts that shards wrote, and from their tables.

The shards are made up, without a model: `samples` answers a question, with LongReward's four scores each. What the
shards write themselves is timed apart, because their workers do it at once.
"""

import hashlib
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.canonical import canonical_json, fingerprint, text_id
from infra.recipe import Recipe, parse_recipe
from infra.store import Store, open_store, table_bytes
from tasks.planning.rules import rules_of
from tasks.records import example as records
from tasks.records.example import Answer, Context, Drop, Example, Judgement, Pair
from tasks.records.plan import Plan, PlannedShard, load_plan, plan_path
from tasks.records.shard import ShardResult, read_shard_result, write_shard_result
from tasks.records.table import StoredTable

SCORERS = ("helpfulness", "logicality", "faithfulness", "completeness")


def measure(shards: int = 500, questions: int = 8, samples: int = 8, context_characters: int = 2000) -> dict[str, Any]:
    """Seconds and peak memory of both ways, on a folder of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        return measure_at(folder, shards, questions, samples, context_characters)
