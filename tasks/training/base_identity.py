"""Which weights a base model has, for a job's id, without reading all of them.

A folder is identified by the names and sizes of its model files and by their first and last mebibyte, which
another training changes; so a moved folder is the same model and a replaced one is not. A hub name is its own
identity, with the recipe's revision beside it.
"""

import hashlib
from pathlib import Path

from infra.canonical import fingerprint
from infra.models.tokens import resolve_model

_END_BYTES = 1 << 20
_PATTERNS = ("*.safetensors", "*.bin", "config.json", "tokenizer*.json", "chat_template*")


def loadable_base(base: str) -> str:
    """The folder of a base model, absolute; a hub name as it is."""
    folder = Path(resolve_model(base))
    return str(folder.resolve()) if folder.exists() else base


def base_identity(base: str) -> str:
    """A hub name as it is; for a folder, a fingerprint of its model files."""
    folder = Path(resolve_model(base))
    if not folder.is_dir():
        return base
    files: set[Path] = set()
    for pattern in _PATTERNS:
        files.update(folder.glob(pattern))
    parts = []
    for path in sorted(files):
        parts.append([path.name, path.stat().st_size, _hash_of_ends(path)])
    return fingerprint(parts)


def _hash_of_ends(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_END_BYTES))
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        digest.update(file.read(_END_BYTES))
    return digest.hexdigest()
