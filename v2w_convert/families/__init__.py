"""What a plan cannot say: arguments that a family's pipeline works out and its denoiser only takes."""

from collections.abc import Callable
from typing import Any

from v2w_convert.families import allegro, cogvideox, kandinsky

# (the base's config; b clips of t frames of h × w; tokens of the prompt; a tensor like the latents) -> arguments
Computed = Callable[..., dict[str, Any]]
COMPUTED: dict[str, Computed] = {
    "allegro": allegro.arguments,
    "cogvideox": cogvideox.arguments,
    "kandinsky5": kandinsky.arguments,
}
