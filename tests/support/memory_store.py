"""A store in memory whose users take turns: between two operations on it, another thread may go first.

The order of the turns is given, so that a test can try many. `one_winner=False` is a server that ignores conditions.
"""

import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO


class Turns:
    """Threads that run one at a time, until the next `pause` of each."""

    def __init__(self) -> None:
        self._turn: dict[int, threading.Semaphore] = {}  # by the thread's number
        self._paused = threading.Semaphore(0)
        self._own = threading.local()
        self._sleeping: set[int] = set()

    def run(self, works: Sequence[Callable[[], None]], choices: Sequence[int]) -> None:
        """Run all works to their ends; `choices` say who goes on next, again and again."""
        errors: list[BaseException] = []

        def target(number: int, work: Callable[[], None]) -> None:
            self._own.number = number
            self._turn[number].acquire()
            try:
                work()
            except BaseException as error:
                errors.append(error)
            finally:
                del self._turn[number]
                self._paused.release()

        threads = []
        for number, work in enumerate(works):
            self._turn[number] = threading.Semaphore(0)
            threads.append(threading.Thread(target=target, args=(number, work), daemon=True))
        for thread in threads:
            thread.start()
        step = 0
        while self._turn:
            awake = sorted(self._turn.keys() - self._sleeping)
            if not awake:  # all that are left have waited for the others long enough
                self._sleeping.clear()
                continue
            self._turn[awake[choices[step % len(choices)] % len(awake)]].release()
            assert self._paused.acquire(timeout=10)
            step += 1
            assert step < 5000, "they never end"
        for thread in threads:
            thread.join(10)
        if errors:
            raise errors[0]

    def pause(self) -> None:
        """Let the others go on; a thread that takes no turns passes."""
        number = getattr(self._own, "number", None)
        if number is None:
            return
        turn = self._turn[number]
        self._paused.release()
        assert turn.acquire(timeout=10)

    def sleep(self, seconds: float) -> None:
        """Pause until all others sleep too, or have ended."""
        self._sleeping.add(self._own.number)
        self.pause()


class MemoryStore:
    """A backend over a dictionary."""

    url = "memory://"
    faults: tuple[type[Exception], ...] = (OSError,)
    access_remedy = "nothing"

    def __init__(self, turns: Turns | None = None, one_winner: bool = True) -> None:
        self.files: dict[str, bytes] = {}
        self._turns = turns or Turns()
        self._one_winner = one_winner

    def place(self, path: str) -> str:
        return f"memory://{path}"

    def local_path(self, path: str) -> Path | None:
        return None

    def read(self, path: str) -> bytes:
        self._turns.pause()
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self.read(path))

    def write(self, path: str, data: bytes) -> None:
        self._turns.pause()
        self.files[path] = data

    def put_if_absent(self, path: str, data: bytes) -> bool:
        self._turns.pause()
        if path in self.files:
            return False
        if not self._one_winner:
            self._turns.pause()
        self.files[path] = data
        return True

    def has_one_winner(self) -> bool:
        return self._one_winner

    def exists(self, path: str) -> bool:
        self._turns.pause()
        return path in self.files

    def size(self, path: str) -> int:
        return len(self.read(path))

    def sizes(self, prefix: str) -> dict[str, int]:
        self._turns.pause()
        return {path: len(data) for path, data in self.files.items() if path.startswith(f"{prefix}/")}

    def children(self, folder: str) -> tuple[list[str], list[str]]:
        files, folders = [], set()
        for path in self.sizes(folder):
            name, slash, _ = path.removeprefix(f"{folder}/").partition("/")
            if slash:
                folders.add(f"{folder}/{name}")
            else:
                files.append(path)
        return files, list(folders)

    def delete(self, *paths: str) -> None:
        for path in paths:
            self._turns.pause()
            self.files.pop(path, None)

    def move(self, source: str, target: str) -> None:
        self.files[target] = self.files.pop(source)

    def download(self, path: str, target: Path) -> None:
        target.write_bytes(self.files[path])

    def upload(self, source: Path, path: str) -> None:
        self.files[path] = source.read_bytes()
