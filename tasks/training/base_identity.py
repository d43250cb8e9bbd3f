"""Which weights a base model has, for a job's id, without reading all of them.

A folder is told apart by the names and sizes of its model files and by their first and last mebibyte, which
another training changes; so a moved folder is the same model and a replaced one is not. A hub name stands
for itself, with the recipe's revision beside it.
"""

import hashlib
from pathlib import Path

from infra.canonical import fingerprint
from infra.models.tokens import resolve_model

_PIECE = 1 << 20
_KINDS = ("*.safetensors", "*.bin", "config.json", "tokenizer*.json", "chat_template*")


def base_identity(base: str) -> str:
    """A hub name as it is; for a folder, a fingerprint of its model files."""
    folder = Path(resolve_model(base))
    if not folder.is_dir():
        return base
    files = sorted({path for kind in _KINDS for path in folder.glob(kind)})
    return fingerprint([[path.name, path.stat().st_size, _ends(path)] for path in files])


def _ends(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_PIECE))
        file.seek(max(0, path.stat().st_size - _PIECE))
        digest.update(file.read(_PIECE))
    return digest.hexdigest()
