"""A lease in the store: one process at a time has the right to some work, until it ends, fails or falls silent.

The files of a lease are numbered. Who wants it writes the claim `0001.json` if there is none, which one of many does;
its successor writes `0002.json`, and so on: the newest claim has the lease. Its holder writes a growing number into
`0001.beat` every few seconds. Who waits and sees the same beat for `silent_s` seconds of its own clock takes over with
the next number, so no two clocks are compared. A process of this machine that has ended is succeeded at once. A holder
that was paused finds the newer claim at its next beat, or in `check`, and must stop.
Where a store cannot promise one winner (`Store.has_one_winner`), a new holder waits a moment and reads who wrote last.
Leaves out: a queue. Of several that wait, any may be next.
"""

import contextlib
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra.errors import BusyError, MissingError, StoreError
from infra.store.store import Store

LEASES = "leases"  # folder of a store; in it a folder for each plan

_log = logging.getLogger(__name__)

_CLAIM = re.compile(r"(\d+)\.json")
_HIDDEN, _ENDED = "hidden", "ended"  # in place of the time when a process began
_READ_ATTEMPTS = 5  # of a claim that is replaced while it is read


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds: between two beats, of silence before a take-over, between two looks, and before a claim is read back."""

    beat_s: float = 10.0
    silent_s: float = 50.0
    look_s: float = 3.0
    settle_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has a lease. `machine` and `started` tell whether it still runs; `since` is for people alone."""

    host: str
    pid: int
    work: str  # name of its flow run
    since: str  # UTC, by the clock of the host
    machine: str  # this boot of this kernel, and the name space of its process ids
    started: str  # ticks since the boot; a later process may have the same id
    claim: str  # a name of its own

    @classmethod
    def this_process(cls, work: str) -> "Holder":
        """The holder that this process would be; each call is a claim of its own."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        pid = os.getpid()
        return cls(socket.gethostname(), pid, work, since, _machine(), _started(pid), uuid.uuid4().hex)

    def __str__(self) -> str:
        return f"{self.work!r}, process {self.pid} on {self.host}, since {self.since}"

    def has_ended(self) -> bool:
        """True when it was a process of this machine that runs no more; False where that cannot be seen from here."""
        return self.machine == _machine() and _started(self.pid) not in (self.started, _HIDDEN)

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the files of a lease say."""

    number: int
    claim: bytes
    beat: bytes

    def is_over(self) -> bool:
        """Whether the lease was given back."""
        return self.beat.endswith(b"ended")


class Lease:
    """A claim on the lease whose files are in `folder`. Methods raise StoreError; `try_to_take` comes first."""

    def __init__(
        self,
        store: Store,
        folder: str,
        holder: Holder,
        times: LeaseTimes | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.times = times or LeaseTimes()
        self.waited_s = 0.0  # for whoever had it before
        self.lost: BusyError | None = None  # once another process has taken over
        self._store = store
        self._folder = folder
        self._holder = holder
        self._clock = clock
        self._sleep = sleep
        self._number = 0  # of our claim
        self._beats = 0
        self._standing: _Standing | None = None  # as last seen by us while we wait
        self._standing_since = 0.0
        self._ended = threading.Event()
        self._lock = threading.Lock()  # over `lost` and `_on_loss`
        self._on_loss: Callable[[BusyError], None] = lambda error: None

    def try_to_take(self) -> Holder | None:
        """Take the lease if it is free; returns the process that has it, or None when this one has it now."""
        now = self._clock()  # before the look: a pause between the two must not count as the holder's silence
        try:
            standing = self._read()
        except StoreError:
            self._standing = None  # the holder may have been cut off as well
            raise
        if standing is None:
            return self._claim(1)
        if self._clock() - now > self.times.beat_s:  # the store was away, for the holder too perhaps
            self._standing = None
        holder = self._holder_of(standing)
        if standing.is_over() or holder.has_ended():
            return self._claim(standing.number + 1)
        if standing != self._standing:
            self._standing, self._standing_since = standing, self._clock()
        elif now - self._standing_since >= self.times.silent_s:
            return self._claim(standing.number + 1)
        return holder

    def check(self) -> None:
        """Raise BusyError when another process has taken over."""
        standing = self._read()
        if standing is None or standing.claim != self._holder.to_bytes():
            by = f"{self._holder_of(standing)}" if standing else "somebody who has removed its files"
            raise BusyError(
                f"{self._store.place(self._folder)}: this build was silent for more than {self.times.silent_s:.0f} s "
                f"(paused, or cut off from the store), and its work was taken over by {by}. It stops here; what was "
                "paid for is in the ledger, and the same command waits for the other build"
            )

    def beat(self) -> None:
        """Show that this process is alive. Raises BusyError when another has taken over."""
        self.check()
        self._beats += 1
        self._store.write(self._path("beat"), f"{self._beats}".encode())

    def release(self) -> None:
        """Give the lease back, unless another process has taken over."""
        self._store.write(self._path("beat"), f"{self._beats} ended".encode())

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Send beats from a thread until the block ends, then give the lease back."""
        thread = threading.Thread(target=self._beat_until_end, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(self.times.beat_s)
            with contextlib.suppress(StoreError):  # who waits finds out that this process has ended
                if self.lost is None:
                    self.release()

    @contextlib.contextmanager
    def calling_when_lost(self, action: Callable[[BusyError], None]) -> Iterator[None]:
        """Call `action`, from another thread, if the lease is lost while the block runs."""
        with self._lock:
            self._on_loss = action
            lost = self.lost
        if lost is not None:
            action(lost)
        try:
            yield
        finally:
            with self._lock:
                self._on_loss = lambda error: None

    def _beat_until_end(self) -> None:
        while not self._ended.wait(self.times.beat_s):
            try:
                self.beat()
            except BusyError as error:
                with self._lock:
                    self.lost = error
                    action = self._on_loss
                action(error)
                return
            except StoreError as error:
                _log.warning("a sign of life could not be written, the next one may: %s", error)

    def _claim(self, number: int) -> Holder | None:
        """Claim the lease by that number; returns the process that was faster, or None."""
        path = f"{self._folder}/{number:04d}.json"
        data = self._holder.to_bytes()
        if self._store.put_if_absent(path, data) and not self._store.has_one_winner():
            self._sleep(self.times.settle_s)
        standing = self._read()
        if standing is None:  # somebody has removed the files
            return self._claim(number)
        if standing.claim != data:
            return self._holder_of(standing)
        self._number = number
        self._remove_older()
        return None

    def _remove_older(self) -> None:
        with contextlib.suppress(StoreError):  # the next holder does it
            older = []
            for path in self._store.list(self._folder):
                number = path.rpartition("/")[2].partition(".")[0]
                if number.isdigit() and int(number) < self._number:
                    older.append(path)
            self._store.delete(*older)

    def _read(self) -> _Standing | None:
        """The newest claim and its beat; None when there is none."""
        for _ in range(_READ_ATTEMPTS):
            numbers = [0]
            for path in self._store.list(self._folder):
                if match := _CLAIM.fullmatch(path.rpartition("/")[2]):
                    numbers.append(int(match[1]))
            if max(numbers) == 0:
                return None
            name = f"{self._folder}/{max(numbers):04d}"
            with contextlib.suppress(MissingError):  # a newer claim has replaced it
                return _Standing(max(numbers), self._store.read(f"{name}.json"), self._read_beat(f"{name}.beat"))
        raise StoreError(f"{self._store.place(self._folder)}: claims keep vanishing while they are read; run again")

    def _read_beat(self, path: str) -> bytes:
        try:
            return self._store.read(path)
        except MissingError:
            return b""  # the holder has only just begun

    def _holder_of(self, standing: _Standing) -> Holder:
        try:
            return Holder(**json.loads(standing.claim))
        except (ValueError, TypeError) as error:
            place = self._store.place(f"{self._folder}/{standing.number:04d}.json")
            raise StoreError(f"{place}: not the claim of a lease ({error}); remove it and run again") from error

    def _path(self, kind: str) -> str:
        return f"{self._folder}/{self._number:04d}.{kind}"


def current_holder(store: Store, folder: str) -> Holder | None:
    """The process that has the lease in `folder`, if any; one of this machine that has ended has it no more.

    Whether one of another machine still lives cannot be seen at a glance: its files look the same. Raises StoreError.
    """
    lease = Lease(store, folder, Holder.this_process(""))
    standing = lease._read()
    if standing is None or standing.is_over():
        return None
    holder = lease._holder_of(standing)
    return None if holder.has_ended() else holder


def _machine() -> str:
    """This boot of this kernel, and the name space of process ids: containers have their own."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> str:
    """When a process of this machine began, in ticks since the boot."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _HIDDEN if _exists(pid) else _ENDED
    return _ENDED if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's; /proc may be mounted so that it does not show them
        return True
    return True
