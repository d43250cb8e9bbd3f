"""The command that a message tells a person to type, whole: with the store where it is not the default one."""

import os
import shlex

from infra.recipe import DEFAULT_STORE
from infra.store import Store, open_store

_VARIABLE = "LONGMILL_STORE"


def default_store() -> str:
    """The store where none is given: LONGMILL_STORE, else the folder `mill`."""
    return os.environ.get(_VARIABLE) or DEFAULT_STORE


def rerun_command(store: Store, plan_id: str, *options: str) -> str:
    """`longmill rerun PLAN --failed`, as it works in the current folder, in a shell without LONGMILL_STORE too."""
    return _command(store, "rerun", plan_id, *options)


def status_command(store: Store, plan_id: str) -> str:
    """`longmill status PLAN --watch`, likewise."""
    return _command(store, "status", plan_id, "--watch")


def _command(store: Store, *words: str) -> str:
    where = []
    if os.environ.get(_VARIABLE) or store.url != open_store(DEFAULT_STORE).url:
        where = ["--store", store.place("")]
    return shlex.join(["longmill", *words, *where])
