"""What one endpoint takes in a minute, as its responses tell: plain state, no input or output.

Many servers count the requests of a minute and then refuse, without a word on when to come again. So after such a
refusal no call is sent until the minute is over, and the calls that the server took in it are its limit from then on:
no more are sent in a minute. After clean minutes at the limit a few more are tried. Minutes begin with the clock's;
where that turns out wrong, sixty seconds after the refusal. A server that says how much it has left, or how long to
wait, is taken at its word. Refusals use up no attempt of a call while the endpoint takes others between them; it is
stalled when it has taken none for long. Times are seconds of a monotonic clock.
"""

from collections.abc import Iterable

from infra.models.rates.signals import Remaining

WINDOW_S = 60.0
LONGEST_WAIT_S = 600.0  # a server that asks for more is asked again after so long
_SHORTEST_WAIT_S = 0.05  # doubles with each pause without a call taken
_MARGIN_S = 0.5  # after the minute: the server's clock is not ours
_MOST_PATIENCE = 32  # minutes at the limit before more are tried


class RateWindow:
    """The requests of an endpoint's current minute."""

    def __init__(self, wall_offset: float = 0.0) -> None:
        """`wall_offset`: seconds to add to the monotonic clock for the time of the epoch."""
        self.limit: int | None = None  # requests in a minute, as learned
        self._stalls = 0  # pauses in a row without a call taken
        self._stalled_since = 0.0  # the first refusal of these
        self._wall_offset = wall_offset
        self._start: float | None = None  # of the window
        self._opens = 0.0
        self._sent = self._taken = 0  # in the window
        self._taken_since_pause = 0
        self._refused = False  # in the window
        self._clean = 0  # windows at the limit without a refusal
        self._patience = 1
        self._left: dict[str, float] = {}  # requests and tokens, as last stated, less what was sent since
        self._left_until: dict[str, float] = {}
        self._call_tokens = 0.0  # of a call, on average

    def has_room(self, now: float) -> bool:
        """Whether another call may start now."""
        self._roll(now)
        return now >= self._opens and self._in_limit() and not any(self._is_used_up(what, now) for what in self._left)

    def opens_at(self, now: float) -> float:
        """When a call may start again, as far as is clear."""
        times = [self._opens]
        if not self._in_limit() and self._start is not None:
            times.append(self._start + WINDOW_S)
        for what, until in self._left_until.items():
            if self._is_used_up(what, now):
                times.append(until)
        return max(times)

    def start_call(self) -> None:
        """A call starts; `has_room` was looked at."""
        self._sent += 1
        for what in self._left:
            self._left[what] -= 1.0 if what == "requests" else self._call_tokens

    def take(self, tokens: int) -> None:
        """The endpoint took a call, which had so many tokens in all."""
        self._taken += 1
        self._taken_since_pause += 1
        self._stalls = 0
        self._call_tokens = tokens if not self._call_tokens else 0.9 * self._call_tokens + 0.1 * tokens
        if self._refused and self.limit is not None:
            self.limit = max(self.limit, self._taken)

    def refuse(self, now: float, stated_s: float | None) -> float:
        """The endpoint refused a call for its rate; returns the seconds until the next one may start.

        `stated_s`: seconds that it asks to wait; None: it counts the calls of a minute, or seems to.
        """
        self._roll(now)
        if now < self._opens:  # sent together with one that was refused
            return self._opens - now
        moved_on = self._taken_since_pause > 0
        if self._stalls == 0:
            self._stalled_since = now
        self._stalls += 1
        self._taken_since_pause = 0
        if stated_s is not None:
            self._opens = now + min(max(stated_s, _SHORTEST_WAIT_S * 2.0 ** min(self._stalls, 9)), LONGEST_WAIT_S)
            return self._opens - now
        if self._taken:
            self._patience = min(2 * self._patience, _MOST_PATIENCE) if self.limit is not None else self._patience
            self.limit = self._taken
        self._refused = True
        self._clean = 0
        assert self._start is not None  # by `_roll`
        if moved_on or self._stalls == 1:
            self._opens = self._start + WINDOW_S + _MARGIN_S
        else:
            self._opens = now + WINDOW_S
        return self._opens - now

    def is_stalled(self, now: float, pauses: int, seconds: float) -> bool:
        """Whether so many pauses have passed without a call taken, and the seconds that a call in flight may take."""
        return self._stalls >= pauses and now - self._stalled_since >= min(seconds, pauses * WINDOW_S)

    def forget_stalls(self) -> None:
        """Count the pauses anew."""
        self._stalls = 0

    def state(self, remaining: Iterable[Remaining], now: float, in_flight: int) -> None:
        """The endpoint has said what it has left. It may not have counted the calls in flight yet."""
        for part in remaining:
            reserved = in_flight * (1.0 if part.what == "requests" else self._call_tokens)
            self._left[part.what] = part.amount - reserved
            self._left_until[part.what] = now + min(part.reset_s, LONGEST_WAIT_S)

    def _in_limit(self) -> bool:
        return self.limit is None or self._sent < self.limit

    def _is_used_up(self, what: str, now: float) -> bool:
        needed = 1.0 if what == "requests" else max(1.0, self._call_tokens)
        return now < self._left_until[what] and self._left[what] < needed

    def _roll(self, now: float) -> None:
        """Begin another window when the last one is over."""
        if self._start is None:
            self._start = now - (now + self._wall_offset) % WINDOW_S
        if now < max(self._start + WINDOW_S, self._opens if self._refused else 0.0):
            return
        if self.limit is not None and not self._refused and self._sent >= self.limit:
            self._clean += 1
            if self._clean >= self._patience:
                self.limit += max(1, self.limit // 4)
                self._clean = 0
        if self._refused:
            self._start = self._opens
        self._start += WINDOW_S * ((now - self._start) // WINDOW_S)
        self._sent = self._taken = 0
        self._refused = False
