"""One streamed denoising step as a pure function of tensors, which is exported."""

from collections.abc import Mapping

from torch import Tensor, nn

from v2w_convert.onnx_export.conditions import ConditionInput
from v2w_convert.sites import State
from v2w_convert.world.model import World


class StreamStep(nn.Module):
    """A world's prediction for one block of n latent frames, and the stream state after it.

    Both are always computed. A denoising pass uses the prediction and ignores the new state; the pass on the
    finished block commits it by keeping the new state. Conditions (text, image latents) are inputs where they are
    each rollout's own. All others are the world's null conditions, stored in the graph as constants.
    """

    def __init__(self, world: World, state: State, conditions: Mapping[str, ConditionInput] | None = None):
        """Wrap a world.

        Args:
            world: The world model.
            state: A stream state, which says what each site carries; its values are not read.
            conditions: Those that are inputs, by name; None: none are.
        """
        super().__init__()
        self.world = world
        self.kept = [(site, key) for site, tensors in state.sites.items() for key in tensors]
        self.conditions = dict(conditions or {})

    @property
    def inputs(self) -> list[str]:
        """Names of forward's arguments, in order: the state's are `state.SITE.KEY`, conditions `condition.NAME`."""
        own = [f"condition.{name}" for name in self.conditions]
        return ["latents", "noise_level", "actions", "dropped", *self.feedback, *own]

    @property
    def outputs(self) -> list[str]:
        """Names of what forward returns, in order."""
        return ["output", *self.feedback.values()]

    @property
    def feedback(self) -> dict[str, str]:
        """For each input of the state, the output to feed into it at the next block, once this one is finished."""
        names = [f"{site}.{key}" for site, key in self.kept]
        return {"cursor": "next.cursor"} | {f"state.{name}": f"next.{name}" for name in names}

    def forward(
        self,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor,
        dropped: Tensor,
        cursor: Tensor,
        *others: Tensor,
    ) -> tuple[Tensor, ...]:
        """Compute one step.

        Args:
            latents: The block's latents (b n c h w), noised to `noise_level`.
            noise_level: (b n), in the unit of the world's noise kind.
            actions: (b n a), the action that led to each frame.
            dropped: (b n) bool, frames whose action is replaced by the learned "no action".
            cursor: int64 scalar, blocks committed so far; at 0 the first frame's action counts as dropped.
            others: The stream state's tensors, at first those of `World.empty_state`; then the conditions, of the
                shapes in `conditions`.

        Returns:
            The base's output (b n c h w), the next cursor, and the next state in the order that it is given in.
        """
        state, own = others[: len(self.kept)], others[len(self.kept) :]
        sites: dict[str, dict[str, Tensor]] = {}
        for (site, key), tensor in zip(self.kept, state, strict=True):
            sites.setdefault(site, {})[key] = tensor
        output, after = self.world.forward_streamed(
            State(cursor, sites),
            latents,
            noise_level,
            actions,
            dropped,
            commit=True,
            **dict(zip(self.conditions, own, strict=True)),
        )
        return output, after.cursor, *(after.sites[site][key] for site, key in self.kept)
