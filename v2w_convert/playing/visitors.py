"""A visitor: what was wished last, where in the world, and what can be gone back to and downloaded.

Whatever a visitor sends only replaces the wish before it, so that nothing grows with messages. Pictures are made only as
long as those before have arrived: a slow connection slows its own visit, and nothing piles up.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from v2w_convert.errors import V2WError
from v2w_convert.playing.game import Frame, Game, Moment
from v2w_convert.playing.protocol import HEADER, Act, Back, Begin, Run, Sample, Seen, Step, Wish
from v2w_convert.world.rollout import Sampling

IN_FLIGHT = 2  # steps whose pictures may be on their way
MAX_STEPS_AHEAD = 4  # single steps that may be waiting
PAST_BYTES = 2**28  # of the moments that a visitor can go back to
REEL_BYTES = 2**26  # of the pictures of a recording; the first ones are dropped
MAX_GUIDANCE = 10.0

Send = Callable[[bytes | dict[str, object]], None]


@dataclass
class Visitor:
    """One of those who are there. Changed by the worker, and under its lock by the socket.

    Attributes:
        send: Takes what is for the browser, from any thread.
        sampling: How the visitor's frames are made.
        rate: Frames a second at most.
        rewind: Steps that can be gone back at most.
        token: By which the browser asks for the recording; nobody else knows it.
        picture: The one sent last, to begin from.
    """

    send: Send
    sampling: Sampling
    rate: float
    rewind: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    picture: Frame | None = None
    values: list[float] = field(default_factory=list)
    acted: int = 0
    running: bool = False
    single: int = 0
    begin: Begin | None = field(default_factory=lambda: Begin(type="begin", start=0))
    back: int = 0
    due: float = 0.0
    number: int = 0
    seen: int = 0
    past: deque[Moment] = field(default_factory=deque)
    reel: deque[bytes] = field(default_factory=deque)
    _reel_bytes: int = 0
    _ends: deque[int] = field(default_factory=lambda: deque(maxlen=IN_FLIGHT))

    def wish(self, wish: Wish, game: Game) -> None:
        """Take a message.

        Raises:
            V2WError: It asks for what there is not.
        """
        match wish:
            case Act():
                game.controls.action(wish.values)
                self.values, self.acted = list(wish.values), wish.number
            case Run():
                self.running = wish.running
            case Step():
                self.single = min(self.single + 1, MAX_STEPS_AHEAD)
            case Begin():
                if wish.start >= len(game.starts):
                    raise V2WError("begin", f"there are {len(game.starts)} starts")
                if wish.own and self.picture is None:
                    raise V2WError("begin from a picture", "none was sent")
                if wish.prompt is not None and game.prompt_conditions is None:
                    raise V2WError("begin with a prompt", "the model takes none here")
                self.begin, self.back, self.single = wish, 0, 0
            case Back():
                self.back, self.single = min(self.back + wish.steps, self.rewind), 0
            case Sample():
                if wish.steps not in game.steps or abs(wish.guidance) > MAX_GUIDANCE:
                    raise V2WError("sample", "the model cannot be sampled so")
                self.sampling = replace(self.sampling, steps=wish.steps, guidance=float(wish.guidance))
                self.rate = float(wish.rate)
            case Seen():
                if not self.seen <= wish.number <= self.number:
                    raise V2WError("see a picture", "it was not sent")
                self.seen = wish.number

    def wants(self, now: float) -> float | None:
        """In how many seconds the worker has something to do for the visitor; None: not before the next message."""
        if len(self._ends) == IN_FLIGHT and self.seen < self._ends[0]:
            return None
        if self.begin is not None or self.back or (self.past and self.single):
            return 0.0
        return max(self.due - now, 0.0) if self.running and self.past else None

    def moved(self, moment: Moment, took: float, together: int, acted: int) -> None:
        """A step was made: keep it, and send its pictures."""
        self.past.append(moment)
        limit = min(self.rewind, PAST_BYTES // moment.bytes)
        while len(self.past) > limit + 1:
            self.past.popleft()
        for picture in moment.pictures:
            self.reel.append(picture)
            self._reel_bytes += len(picture)
        while self._reel_bytes > REEL_BYTES:
            self._reel_bytes -= len(self.reel.popleft())
        self._show(moment.pictures, took, together, acted)

    def came(self, moment: Moment, took: float) -> None:
        """A visit has begun anew."""
        self.past.clear()
        self.reel.clear()
        self._reel_bytes = 0
        self.moved(moment, took, 1, self.acted)

    def go_back(self, steps: int) -> None:
        """Forget the last steps, as many as are kept, and show where that is."""
        for _ in range(min(steps, len(self.past) - 1)):
            for _ in self.past.pop().pictures:
                if len(self.reel) > 1:
                    self._reel_bytes -= len(self.reel.pop())
        if self.past:
            self._show(self.past[-1].pictures[-1:], 0.0, 1, self.acted)

    def _show(self, pictures: list[bytes], took: float, together: int, acted: int) -> None:
        for picture in pictures:
            self.number += 1
            header = HEADER.pack(self.number, len(self.past) - 1, acted, took * 1000, together)
            self.send(header + picture)
        self._ends.append(self.number)

    def wait_for_the_next(self, began: float, pictures: int) -> None:
        """Set when the next step is due, so that the rate holds on average."""
        period = pictures / self.rate
        self.due = max(self.due + period, began) if began - self.due < period else began + period


def now() -> float:
    """A clock that only goes on, in seconds."""
    return time.perf_counter()
