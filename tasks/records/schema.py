"""The Arrow schema of a record, derived from its Python type, so that a record is declared once.

A record is a dataclass or a TypedDict. `str`, `int`, `float` and `bool` become string, int32, float64 and bool; a
tuple or list of one type becomes a list, and a TypedDict inside a record a struct. A field is nullable where its type
says `| None`, and nowhere else. The order of the fields is that of the class.
"""

import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import pyarrow as pa

_SCALARS: Mapping[type, pa.DataType] = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}


def schema_of(record: type) -> pa.Schema:
    """The schema of tables of a record. Raises TypeError for a field of a type that has no Arrow type here."""
    return pa.schema(_fields(record))


def _fields(record: type) -> list[pa.Field]:
    return [_field(name, hint) for name, hint in get_type_hints(record).items()]


def _field(name: str, hint: Any) -> pa.Field:
    if get_origin(hint) not in (types.UnionType, Union):
        return pa.field(name, _arrow_type(name, hint), nullable=False)
    inner = [part for part in get_args(hint) if part is not types.NoneType]
    if len(inner) != 1:
        raise TypeError(f"{name}: {hint} has no one Arrow type; a field is of one type, or that type and None")
    return pa.field(name, _arrow_type(name, inner[0]), nullable=True)


def _arrow_type(name: str, hint: Any) -> pa.DataType:
    if hint in _SCALARS:
        return _SCALARS[hint]
    if is_typeddict(hint):
        return pa.struct(_fields(hint))
    if get_origin(hint) in (list, tuple):
        return pa.list_(_arrow_type(name, get_args(hint)[0]))
    raise TypeError(f"{name}: {hint} has no Arrow type here; use str, int, float, bool, a list or a TypedDict")
