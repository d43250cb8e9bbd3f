"""The command that a message tells a person to type, whole: with the store where it is not the default one."""

import shlex

from infra.store import Store, open_store

DEFAULT_STORE = "mill"


def rerun_command(store: Store, plan_id: str, *options: str) -> str:
    """`longmill rerun PLAN --failed`, as it works in the current folder."""
    words = ["longmill", "rerun", plan_id, *options]
    if store.url != open_store(DEFAULT_STORE).url:
        words += ["--store", store.place("")]
    return shlex.join(words)
