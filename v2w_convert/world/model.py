"""The world model: the base, called one block of frames per clip, and the sites that connect the blocks again."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from v2w_convert.errors import V2WError
from v2w_convert.noise import Noise
from v2w_convert.operations import ReceptiveField
from v2w_convert.plan.call import Conditions, call_base
from v2w_convert.plan.condition import ResolvedCondition
from v2w_convert.plan.resolve import ResolvedPlan
from v2w_convert.sites import ForwardContext, Site, State, bind_context
from v2w_convert.world.conditions import first_frame, fold_condition
from v2w_convert.world.rollout import Stream, start_stream


class World(nn.Module):
    """A causal, action-conditioned video denoiser.

    A world is not re-entrant: sites take part in one forward pass at a time. Calls from several threads take turns by a
    lock of the caller's. It can be deep-copied, pickled, moved, cast and compiled as any module.

    Attributes:
        base: The denoiser, its sites changed; parameter names are the base's own, new ones are `…v2w_action.…`.
        resolved: The plan and the base's config.
        frames_per_block: Latent frames that are denoised at once and see each other. Wherever frames are given, they
            are whole blocks.
        noise: What a noise level is (`v2w_convert.noise`).
        action_dim: a, numbers in an action.
    """

    _compiled_streamed: Callable[..., tuple[Tensor, State]] | None = None

    def __init__(
        self,
        base: nn.Module,
        resolved: ResolvedPlan,
        action_dim: int,
        conditions: Conditions | None = None,
    ):
        """Make a world of a base whose operations are installed.

        Args:
            base: The denoiser.
            resolved: The plan and the base's config.
            action_dim: Numbers in an action.
            conditions: What is given where the caller gives nothing: name -> tensor without batch and frame. By
                default the plan's null conditions.
        """
        super().__init__()
        self.base = base
        self.resolved = resolved
        self.frames_per_block = resolved.frames_per_block
        self.noise: Noise = resolved.noise.build()
        self.action_dim = action_dim
        for name, value in (resolved.call.null_conditions() if conditions is None else conditions).items():
            self.register_buffer(f"null_{name}", value, persistent=False)
        # Looked up once: to walk all modules takes longer than to bind a context to the sites.
        self._site_modules = {name: base.get_submodule(name) for name in resolved.sites}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the world in place for training and for rollouts: `forward` and `forward_streamed`.

        `torch.compile(world)` compiles `forward` only. Copies and pickles of a compiled world are not compiled. The
        first call of each kind compiles; so does another number of frames, blocks or clips, but no other step of a
        stream. Outputs are those of the eager world, up to the rounding of the backend.

        Args:
            args: As for `torch.compile`.
            kwargs: As for `torch.compile`. With `fullgraph=True`, a base that torch cannot compile whole is refused by
                torch: Mochi's attention takes one sample at a time, HunyuanVideo 1.5 branches on its image's values.
        """
        super().compile(*args, **kwargs)
        self._compiled_streamed = torch.compile(self._forward_streamed, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {key: value for key, value in state.items() if key != "_compiled_streamed"}

    @property
    def sites(self) -> dict[str, Site]:
        """The modules that operations have changed, by their path in the base, in the base's order."""
        return {name: site for name, site in self._site_modules.items() if isinstance(site, Site)}

    @property
    def channels(self) -> int:
        """c, channels of a frame's latent."""
        return self.resolved.call.channels

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the base's parameters."""
        return next(self.base.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The device of the base's parameters."""
        return next(self.base.parameters()).device

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Which earlier blocks each site should see, by the plan."""
        return {
            name: operation.receptive_field(self._site_modules[name], self.frames_per_block)
            for name, operation in self.resolved.sites.items()
        }

    def forward(
        self,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None = None,
        dropped: Tensor | None = None,
        *,
        offset: Tensor | None = None,
        bidirectional: bool = False,
        **conditions: Tensor,
    ) -> Tensor:
        """The base's prediction for clips that begin with their first frame.

        Args:
            latents: (b t c h w), each frame noised to its own level.
            noise_level: (b t), 0 is clean; the unit is `self.noise`'s. One for a block: its first frame's counts.
            actions: (b t a), row t led from frame t - 1 to frame t; the first frame's is never read. None: no action is
                known.
            dropped: (b t) bool, frames whose action is replaced by the learned "no action".
            offset: (b,) int64, added to the frames' positions.
            bidirectional: Whether every operation takes the base's form.
            conditions: What the plan names, once per clip (b …) or once per block (b t/n …): `text` (b n d). Pictures that
                every frame receives, `image_latents`, once per clip (b c h w), laid out as the plan says, or once per
                frame (b T c h w), the last one holding for all frames after it.

        Returns:
            (b t c h w).

        Raises:
            V2WError: A shape is wrong, or a condition is unknown.
        """
        now = self._pass(latents, actions, dropped)
        now.offset, now.bidirectional = offset, bidirectional
        return self._run(now, latents, noise_level, conditions)

    def forward_streamed(
        self,
        state: State,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None = None,
        dropped: Tensor | None = None,
        *,
        commit: bool = False,
        **conditions: Tensor,
    ) -> tuple[Tensor, State]:
        """The prediction for frames that come after those in `state`, and the state after them.

        A pure function of its tensors. Without `commit` the frames leave no trace and the same state is returned:
        denoising passes only read the past.

        Args:
            state: Of the stream; it is not changed.
            latents: As in `forward`, as the arguments that follow.
            noise_level: As in `forward`.
            actions: As in `forward`.
            dropped: As in `forward`.
            commit: Whether to write the frames into the state.
            conditions: As in `forward`; pictures for every frame count from the stream's first frame.

        Returns:
            (b t c h w), and the state.
        """
        run = self._compiled_streamed or self._forward_streamed
        return run(state, latents, noise_level, actions, dropped, commit, 0, conditions)

    def forward_folded(
        self,
        state: State,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None = None,
        **conditions: Tensor,
    ) -> tuple[Tensor, State]:
        """Write all blocks but the last, and predict the last: two passes of `forward_streamed` in one, up to rounding.

        Arguments are those of `forward_streamed`, of two blocks or more.

        Returns:
            The last block's prediction (b n c h w), and the state before it.
        """
        run = self._compiled_streamed or self._forward_streamed
        output, after = run(state, latents, noise_level, actions, None, True, 1, conditions)
        return output[:, -self.frames_per_block :], after

    def _forward_streamed(
        self,
        state: State,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None,
        dropped: Tensor | None,
        commit: bool,
        ahead: int,
        conditions: dict[str, Tensor],
    ) -> tuple[Tensor, State]:
        now = self._pass(latents, actions, dropped)
        if ahead >= now.t:
            raise V2WError("call the world model", "one block, of which none is before the last")
        now.cursor, now.past, now.commit, now.ahead = state.cursor, state.sites, commit, ahead
        output = self._run(now, latents, noise_level, conditions)
        return output, State(state.cursor + now.committed, now.new_states) if commit else state

    def empty_state(self, b: int, h: int, w: int, window: int | None = None) -> State:
        """The state before the first frame.

        Args:
            b: Number of streams.
            h: Height of the latents.
            w: Width of the latents.
            window: Frames in view, the present block's included, where the plan has no window. A stream is of fixed
                size: it forgets what lies further back.

        Raises:
            V2WError: No window is known, or it is another one than the plan's.
        """
        planned = self.resolved.window
        asked = "begin a stream"
        has_rings = any(operation.ring_states for operation in self.resolved.sites.values())
        if planned is None and window is None and has_rings:
            raise V2WError(asked, "neither the plan nor the call names a window", "window=N frames")
        if planned is not None and window not in (None, planned):
            raise V2WError(f"{asked} with a window of {window}", f"the plan's is {planned}")
        slots = max((planned or window or 1) // self.frames_per_block - 1, 1)
        latents = torch.zeros(
            1, self.frames_per_block, self.channels, h, w, dtype=self.dtype, device=self.device
        )
        now = self._pass(latents, None, None)
        now.commit = True
        with torch.no_grad():  # one empty block, to learn how large each site's state is
            self._run(now, latents, torch.zeros(1, self.frames_per_block, device=self.device), {})
        sites = {}
        for name, kept in now.new_states.items():
            rings = self.resolved.sites[name].ring_states
            sites[name] = {
                key: _blank(value, b, slots if key in rings else None) for key, value in kept.items()
            }
        return State(torch.zeros((), dtype=torch.int64, device=self.device), sites)

    def clip_tokens(self, h: int, w: int, window: int | None = None) -> int:
        """Latent tokens of a clip as long as the view, by which some schedulers shift their noise levels (LTX-Video).

        Args:
            h: Height of the latents.
            w: Width of the latents.
            window: Frames in view, where the plan has no window.
        """
        config = self.resolved.config
        frames = self.resolved.window or window or self.frames_per_block
        patch = config.get("patch_size") or 1
        across, down = (patch[-1], patch[-2]) if isinstance(patch, list | tuple) else (patch, patch)
        return -(-frames // (config.get("patch_size_t") or 1)) * (h // down) * (w // across)

    def stream(self, b: int, h: int, w: int, **options: Any) -> Stream:
        """b rollouts of latents h × w, to be shown frames (`observe`) and continued by actions (`step`).

        Options as in `v2w_convert.world.rollout.start_stream`.
        """
        return start_stream(self, b, h, w, **options)

    def _pass(self, latents: Tensor, actions: Tensor | None, dropped: Tensor | None) -> ForwardContext:
        b, t, c = latents.shape[:3]
        faults = []
        if latents.ndim != 5 or c != self.channels:
            faults.append(f"latents are {tuple(latents.shape)}, not (b t {self.channels} h w)")
        if actions is not None and tuple(actions.shape) != (b, t, self.action_dim):
            faults.append(f"actions are {tuple(actions.shape)}, not {(b, t, self.action_dim)}")
        if t % self.frames_per_block:
            faults.append(f"{t} frames are not whole blocks of {self.frames_per_block}")
        if faults:
            raise V2WError("call the world model", faults)
        cursor = torch.zeros((), dtype=torch.int64, device=latents.device)
        blocks = t // self.frames_per_block
        if actions is not None:
            actions = actions.unflatten(1, (blocks, self.frames_per_block))
        if dropped is not None:
            dropped = dropped.unflatten(1, (blocks, self.frames_per_block))
        return ForwardContext(
            b,
            blocks,
            cursor,
            self.frames_per_block,
            self.frames_per_block // self.resolved.call.frames_per_token,
            actions=actions,
            dropped=dropped,
        )

    def _run(
        self, now: ForwardContext, latents: Tensor, noise_level: Tensor, conditions: dict[str, Tensor]
    ) -> Tensor:
        call = self.resolved.call
        if unknown := conditions.keys() - call.conditions.keys():
            raise V2WError(
                "call the world model",
                f"unknown condition {', '.join(sorted(unknown))}",
                f"this family's are {', '.join(call.conditions) or 'none'}",
            )
        h, w = latents.shape[-2:]
        folded = {
            name: fold_condition(conditions[name], name, condition, now, h, w)
            if name in conditions
            else self._null(name, condition, now, h, w)
            for name, condition in call.conditions.items()
        }
        now.first_frames = {
            name: first_frame(conditions[name] if name in conditions else folded[name][: now.b])
            for name, condition in call.conditions.items()
            if condition.is_per_frame
        }
        bind_context(self.sites, now)
        noisy = (
            self.noise.model_input(latents, noise_level)
            .unflatten(1, (now.t, now.frames_per_block))
            .flatten(0, 1)
        )
        timestep = self.noise.timestep(noise_level[:, :: now.frames_per_block]).flatten()
        frames = call_base(self.base, call, noisy, timestep, folded)
        output: Tensor = frames.unflatten(0, (now.b, now.t)).flatten(1, 2)
        return output

    def _null(self, name: str, condition: ResolvedCondition, now: ForwardContext, h: int, w: int) -> Tensor:
        """The null condition for every block, folded ((b t) …), or for every frame ((b t) n c h w)."""
        value: Tensor | None = getattr(self, f"null_{name}", None)
        if value is None:  # as large as a frame, so not stored
            value = condition.null(h, w).to(self.device)
        front = (now.b * now.t, now.frames_per_block) if condition.is_per_frame else (now.b * now.t,)
        return value.expand(*front, *value.shape)


def _blank(kept: Tensor, b: int, slots: int | None) -> Tensor:
    """Zeros for b streams like what one stream kept; a ring (axis 3 of b s heads t l d) gets its slots."""
    shape = [b, *kept.shape[1:]]
    if slots is not None:
        shape[3] = slots
    return kept.new_zeros(shape)
