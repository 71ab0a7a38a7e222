"""Serve a world model to browsers."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from v2w_convert.playing.game import open_game
from v2w_convert.playing.result import PlayResult
from v2w_convert.playing.server import address_of, application, is_loopback, listen, serve
from v2w_convert.playing.settings import PlaySettings
from v2w_convert.playing.worker import Worker
from v2w_convert.progress import Progress, ProgressEvent


def play(
    world_folder: Path,
    data: Path | None,
    settings: PlaySettings,
    progress: Progress,
    ready: Callable[[PlayResult], None],
) -> None:
    """Serve until a signal ends it.

    Args:
        world_folder: A converted or finetuned model's folder, with its autoencoder.
        data: A data set, whose episodes visits begin from; None: what is kept with the model.
        settings: The settings.
        progress: Called before each part of the work; and with notes.
        ready: Called when the page can be opened.

    Raises:
        V2WError: A package is missing, the address cannot be listened on, or model and data cannot be played.
    """

    def say(line: str) -> None:
        progress(ProgressEvent("note", detail=line))

    with listen(settings) as listening, one_core_left():
        game = open_game(world_folder, data, settings, progress)
        if not is_loopback(listening):
            say(
                f"warning: whoever reaches {settings.host} can play, without a password and without encryption"
            )
        if game.prompt_conditions is not None and not is_private(listening, settings):
            game.prompt_conditions = None
            say("visitors cannot write prompts of their own: all others would wait for each of them")
        if not game.trained:
            say("warning: the model has not been finetuned: actions have no effect yet")
        worker = Worker(game, settings, say)
        worker.start()
        ready(
            PlayResult(
                url=address_of(listening, settings),
                world=game.name,
                data=game.data,
                starts=len(game.starts),
                actions=game.controls.parts.names,
                fps=game.fps,
                visitors=settings.visitors,
            )
        )
        try:
            height, width = game.size
            serve(application(game, settings, worker), listening, settings, height * width * 3)
        finally:
            worker.end()


def is_private(listening: socket.socket, settings: PlaySettings) -> bool:
    """Whether all visitors are on this machine: none comes over the network, nor through a proxy."""
    return is_loopback(listening) and not settings.allow_host


@contextmanager
def one_core_left() -> Iterator[None]:
    """Compute on all cores but one, which is for the server and the browser; unless the user says on how many.

    On two cores, frames of a small model come 1.4 times as often then (benchmarks/README.md).
    """
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(before - 1, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
