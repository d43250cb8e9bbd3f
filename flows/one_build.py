"""One build at a time for each plan: a build has the plan's lease in the store, others wait for it.

Two builds of one plan would both pay for its calls. So the second waits, says for whom, shows how far that one is, and
goes on in its place when that one has ended, failed or fallen silent; when all is done by then, it makes no call.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from prefect.runtime import flow_run

from infra.errors import BusyError, StoreError
from infra.running import progress
from infra.store import Store
from infra.store.lease import LEASES, Holder, Lease
from tasks.records.plan import Plan
from tasks.records.shard import unfinished_shards

STAGE = "waiting"
_STORE_PATIENCE_S = 120.0  # that the store may be away while a build waits
_COUNT_EVERY_S = 30.0

# By the store's URL and the plan: a round (flows/improve.py) has the lease while its build wants it.
_leases: ContextVar[dict[tuple[str, str], Lease]] = ContextVar("leases")


@contextlib.contextmanager
def lease_of_plan(
    store: Store, plan: Plan, wait_s: float | None, before_wait: Callable[[], None] = lambda: None
) -> Iterator[Lease]:
    """The lease of the plan, until the block ends. Waits at most `wait_s` seconds for another build that has it.

    `before_wait` is called once, before the wait. Within a block of the same plan it is the same lease. Raises
    BusyError when the time is over, and StoreError.
    """
    own = _leases.get({})
    key = store.url, plan.plan_id
    if key in own:
        yield own[key]
        return
    lease = Lease(store, f"{LEASES}/{plan.plan_id}", Holder.this_process(flow_run.name or "build"))
    holder = lease.try_to_take()
    if holder is not None:
        start = time.monotonic()
        before_wait()
        _wait(lease, store, plan, holder, wait_s)
        lease.waited_s = time.monotonic() - start
    token = _leases.set({**own, key: lease})
    try:
        with lease.beating():
            yield lease
    finally:
        _leases.reset(token)


def _wait(lease: Lease, store: Store, plan: Plan, holder: Holder, wait_s: float | None) -> None:
    """Wait until the lease is this build's. Raises BusyError when `wait_s` seconds are over."""
    start = last_look = time.monotonic()
    done = _Done(store, plan)
    announced = ""
    while True:
        if announced != holder.claim:
            _say(f"plan {plan.plan_id} is being built by {holder}. This build waits, and goes on when that one ends")
            announced = holder.claim
        if wait_s is not None and time.monotonic() - start >= wait_s:
            raise BusyError(
                f"plan {plan.plan_id} is being built by {holder}; this build has waited for execution.wait_s = "
                f"{wait_s:g} s. Run it again when that one has ended"
            )
        done.show()
        time.sleep(lease.times.look_s)
        try:
            other = lease.try_to_take()
            last_look = time.monotonic()
        except StoreError:
            if time.monotonic() - last_look > _STORE_PATIENCE_S:
                raise
            continue
        if other is None:
            _say(f"plan {plan.plan_id}: the other build has ended; this one goes on")
            return
        holder = other


class _Done:
    """Shows how many shards of a plan have results."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store = store
        self._plan = plan
        self._next = 0.0
        self._shards = 0
        progress.expect(STAGE, len(plan.shards))

    def show(self) -> None:
        """Count them, now and then."""
        if time.monotonic() < self._next:
            return
        with contextlib.suppress(StoreError):
            shards = len(self._plan.shards) - len(unfinished_shards(self._store, self._plan))
            progress.advance(STAGE, shards - self._shards)
            self._shards = shards
        self._next = time.monotonic() + _COUNT_EVERY_S


def _say(text: str) -> None:
    progress.say(text)
