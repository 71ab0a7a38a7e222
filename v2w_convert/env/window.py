"""A window for `render_mode="human"`, by pygame where it is installed."""

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.errors import V2WError

SIDE = 512  # small pictures are enlarged to about this height
MODES = ["rgb_array", *(["human"] if find_spec("pygame") else [])]


def require_mode(mode: str | None, modes: list[str]) -> None:
    """Check that frames can be rendered in this way.

    Raises:
        V2WError: They cannot.
    """
    if mode is None or mode in modes:
        return
    asked = f"render in the mode {mode!r:.80}"
    if mode == "human" and "human" not in MODES:
        raise V2WError(asked, "pygame is not installed", "pip install pygame-ce, or render_mode='rgb_array'")
    raise V2WError(asked, "there is no such mode", ", ".join(modes))


class Window:
    """A window that shows pictures at a rate."""

    def __init__(self, fps: float):
        """Open it with the first picture."""
        self.fps = fps
        self.screen: Any = None
        self.clock: Any = None

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture (height width 3), and wait until it is time for the next."""
        import pygame

        scale = max(SIDE // len(picture), 1)
        size = (picture.shape[1] * scale, picture.shape[0] * scale)
        if self.screen is None:
            pygame.display.init()
            self.screen, self.clock = pygame.display.set_mode(size), pygame.time.Clock()
            pygame.display.set_caption("v2w")
        surface = pygame.surfarray.make_surface(picture.swapaxes(0, 1))
        self.screen.blit(pygame.transform.scale(surface, size), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self.clock.tick(self.fps)

    def close(self) -> None:
        """Close it, if it was opened."""
        if self.screen is not None:
            import pygame

            pygame.display.quit()
            self.screen = None
