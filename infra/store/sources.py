"""Files that users name: at a local path or any fsspec URL, compressed or not. Reading them, not the store's own."""

from typing import Any

from infra.errors import InputError

PACKED = (".gz", ".bz2", ".xz", ".zst")  # suffixes of compressed files


def file_system(source: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path in it.

    Raises InputError for an address of no file system, and for a URL with a password: it would reach logs and plans.
    """
    from fsspec.core import url_to_fs

    protocol, separator, rest = source.partition("://")
    if separator and "@" in rest.partition("/")[0]:
        raise InputError(f"a {protocol} source with a user or password in its URL is refused; use the environment")
    try:
        filesystem, path = url_to_fs(source)
    except (ValueError, ImportError) as error:
        raise InputError(f"{source}: no file system for this address ({error}); check the part before ://") from error
    return filesystem, path


def file_faults(filesystem: Any) -> tuple[type[BaseException], ...]:
    """The errors that this file system raises when it cannot be reached."""
    if "s3" not in filesystem.protocol:
        return (OSError,)
    from botocore.exceptions import BotoCoreError

    return (OSError, BotoCoreError)


def open_unpacked(filesystem: Any, path: str) -> Any:
    """A file opened to read bytes, unpacked while it is read."""
    if not path.lower().endswith(".zst"):
        return filesystem.open(path, "rb", compression="infer")
    import pyarrow as pa

    return pa.CompressedInputStream(filesystem.open(path, "rb"), "zstd")


def unpacked_name(path: str) -> str:
    """The name in small letters, without the suffix of its compression."""
    name = path.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return name
