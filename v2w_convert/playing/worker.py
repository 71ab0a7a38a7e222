"""The one thread that runs the model: it makes the next step of all visitors who wait, in one batch."""

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.errors import V2WError, one_line
from v2w_convert.playing.game import Frame, Game, Moment
from v2w_convert.playing.protocol import Begin, Wish
from v2w_convert.playing.settings import PlaySettings
from v2w_convert.playing.visitors import Send, Visitor, now
from v2w_convert.world.rollout import Sampling


@dataclass(frozen=True)
class _Order:
    """What is to be done for a visitor, as it was wished when the worker came by."""

    visitor: Visitor
    begin: Begin | None
    picture: Frame | None
    back: int
    step: bool
    moment: Moment | None
    action: NDArray[np.float32]
    acted: int
    sampling: Sampling


class Worker:
    """Serves visitors, a bounded number of them.

    Attributes:
        game: The model.
        settings: Of the server.
        say: Told of faults.
    """

    def __init__(self, game: Game, settings: PlaySettings, say: Callable[[str], None]):
        self.game, self.settings, self.say = game, settings, say
        self._changed = threading.Condition()
        self._visitors: list[Visitor] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="v2w play", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def end(self) -> None:
        """End when the present step is made."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()

    def enter(self, send: Send) -> Visitor | None:
        """A new visitor, who stands at the first start; None: all places are taken."""
        with self._changed:
            if len(self._visitors) >= self.settings.visitors or self._ended:
                return None
            rate = self.settings.rate or self.game.fps
            visitor = Visitor(send, self.game.sampling, rate, self.settings.rewind)
            visitor.values = self.game.controls.resting()
            self._visitors.append(visitor)
            self._changed.notify_all()
            return visitor

    def leave(self, visitor: Visitor) -> None:
        """Forget a visitor."""
        with self._changed:
            self._visitors = [other for other in self._visitors if other is not visitor]

    def find(self, token: str) -> Visitor | None:
        """The visitor with this token."""
        with self._changed:
            return next((visitor for visitor in self._visitors if visitor.token == token), None)

    def wish(self, visitor: Visitor, wish: Wish) -> None:
        """Take a visitor's message.

        Raises:
            V2WError: It asks for what there is not.
        """
        with self._changed:
            visitor.wish(wish, self.game)
            self._changed.notify_all()

    def picture(self, visitor: Visitor, pixels: bytes) -> None:
        """Take a visitor's picture, to begin from.

        Raises:
            V2WError: It does not have the size of the world's pictures.
        """
        picture = self.game.picture(pixels)
        with self._changed:
            visitor.picture = picture

    def recorded(self, visitor: Visitor) -> list[bytes]:
        """The pictures that a visitor has seen since the beginning, as files, without those that were taken back."""
        with self._changed:
            return list(visitor.reel)

    def _run(self) -> None:
        while orders := self._next():
            groups: dict[tuple[Sampling, Any], list[_Order]] = defaultdict(list)
            for order in orders:
                if order.begin is not None or order.back:
                    self._move(order)
                elif order.step and order.moment is not None:
                    groups[order.sampling, order.moment.shapes].append(order)
            for group in groups.values():
                self._step(group)

    def _next(self) -> list[_Order]:
        """Wait until there is something to do; nothing: the end."""
        with self._changed:
            while not self._ended:
                time = now()
                waits = [(visitor, visitor.wants(time)) for visitor in self._visitors]
                if ready := [visitor for visitor, wait in waits if wait == 0]:
                    return [self._take(visitor, time) for visitor in ready]
                self._changed.wait(min((wait for _, wait in waits if wait is not None), default=None))
            return []

    def _take(self, visitor: Visitor, time: float) -> _Order:
        begin, back = visitor.begin, visitor.back
        visitor.begin, visitor.back = None, 0
        step = begin is None and not back
        if step:
            visitor.single = max(visitor.single - 1, 0)
            visitor.wait_for_the_next(time, self.game.pictures_per_step)
        action = self.game.controls.action(visitor.values)
        moment = visitor.past[-1] if visitor.past else None
        own = visitor.picture if begin is not None and begin.own else None
        return _Order(visitor, begin, own, back, step, moment, action, visitor.acted, visitor.sampling)

    def _move(self, order: _Order) -> None:
        visitor, began = order.visitor, now()
        if order.begin is None:
            with self._changed:
                visitor.go_back(order.back)
            return
        try:
            begin = order.begin
            moment = self.game.begin(begin.start, begin.seed, order.sampling, order.picture, begin.prompt)
        except Exception as error:
            self._failed(order, error)
            return
        with self._changed:
            visitor.came(moment, now() - began)
            if order.back:
                visitor.go_back(order.back)

    def _step(self, group: list[_Order]) -> None:
        began = now()
        moments = [order.moment for order in group if order.moment is not None]
        try:
            made = self.game.step(moments, [order.action for order in group], group[0].sampling)
        except Exception as error:
            if len(group) == 1:
                self._failed(group[0], error)
            else:  # so that what is wrong with one visit does not end the others
                for order in group:
                    self._step([order])
            return
        took = now() - began
        with self._changed:
            for order, moment in zip(group, made, strict=True):
                order.visitor.moved(moment, took, len(group), order.acted)

    def _failed(self, order: _Order, error: Exception) -> None:
        """Tell the visitor, whose visit stands still; faults are told to the server's user, too."""
        known = isinstance(error, V2WError)
        said = str(error) if known else "the server could not make this picture"
        if not known:
            self.say(f"a visit failed: {one_line(error)}")
        with self._changed:
            order.visitor.running, order.visitor.single = False, 0
            order.visitor.send({"type": "error", "say": f"{said}. Begin again."})
