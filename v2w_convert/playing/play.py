"""Serve a world model to browsers."""

from collections.abc import Callable
from pathlib import Path

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

    with listen(settings) as listening:
        game = open_game(world_folder, data, settings, progress)
        if not is_loopback(listening):
            say(
                f"warning: whoever reaches {settings.host} can play, without a password and without encryption"
            )
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
