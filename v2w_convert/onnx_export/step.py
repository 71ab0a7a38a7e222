"""One streamed denoising step as a pure function of tensors: what is exported."""

from torch import Tensor, nn

from v2w_convert.sites import State
from v2w_convert.world.model import World


class StreamStep(nn.Module):
    """A world's prediction for one block of n frames (one frame, mostly), and the stream's state after it.

    Both are always computed. A denoising pass uses the prediction and drops the new state; the pass on the
    finished frame keeps the new state. Conditions (text, anchor) are the world's nulls, baked in.

    `state` says which sites keep what; its values are not looked at.
    """

    def __init__(self, world: World, state: State):
        super().__init__()
        self.world = world
        self.kept = [(site, key) for site, tensors in state.sites.items() for key in tensors]

    @property
    def inputs(self) -> list[str]:
        """Names of forward's arguments, in order; a state is called `state.SITE.KEY`."""
        return ["latents", "noise_level", "actions", "dropped", *self.feedback]

    @property
    def outputs(self) -> list[str]:
        """Names of what forward returns, in order."""
        return ["output", *self.feedback.values()]

    @property
    def feedback(self) -> dict[str, str]:
        """Input -> the output to feed into it at the next frame, once this one is finished."""
        names = [f"{site}.{key}" for site, key in self.kept]
        return {"cursor": "next.cursor"} | {f"state.{name}": f"next.{name}" for name in names}

    def forward(
        self,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor,
        dropped: Tensor,
        cursor: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        """The base's output (b n c h w), the next cursor, and the next state in the order of `state`.

        latents      (b n c h w), the frames noised to `noise_level` (b n), in the unit of the world's noise
        actions      (b n a), the action that led to each frame; not looked at where `dropped` (b n) bool
        cursor       () int64, blocks committed so far; at 0 the first frame's action counts as dropped
        state        what `World.empty_state` holds at first
        """
        sites: dict[str, dict[str, Tensor]] = {}
        for (site, key), tensor in zip(self.kept, state, strict=True):
            sites.setdefault(site, {})[key] = tensor
        output, after = self.world.forward_streamed(
            State(cursor, sites), latents, noise_level, actions, dropped, commit=True
        )
        return output, after.cursor, *(after.sites[site][key] for site, key in self.kept)
