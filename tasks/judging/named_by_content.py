"""Small JSON files in the store that are named by the hash of their content.

So a recipe that names one, and the plan, say exactly which one it was.
"""

import hashlib
import json
from typing import Any

from infra.canonical import canonical_json
from infra.errors import RecipeError, StoreError
from infra.store import Store, open_store


def write_named(store: Store, folder: str, content: Any) -> str:
    """Write JSON values under the name of their content; returns the path."""
    data = canonical_json(content)
    path = f"{folder}/{hashlib.sha256(data).hexdigest()[:16]}.json"
    store.put_if_absent(path, data)
    return path


def read_named(store_url: str, path: str, key: str, remedy: str) -> dict[str, Any]:
    """The content of such a file. Raises RecipeError that names the recipe's key, also where it was changed."""
    try:
        data = open_store(store_url).read(path)
    except StoreError as error:
        raise RecipeError(f"{key}: cannot read {path} in the store {store_url} ({error}); {remedy}") from error
    if not path.endswith(f"{hashlib.sha256(data).hexdigest()[:16]}.json"):
        raise RecipeError(f"{key}: {path} was changed: its name is not the hash of its content; {remedy}")
    try:
        content = json.loads(data)
    except ValueError as error:
        raise RecipeError(f"{key}: {path} is no calibration ({error}); {remedy}") from error
    return dict(content)
