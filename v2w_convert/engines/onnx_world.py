"""A world whose streamed passes onnxruntime computes: the rollouts of torch, up to the rounding of float32."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from v2w_convert.engines.graph_cache import default_folder, graph_key, keep_graph, kept_graph
from v2w_convert.errors import V2WError, one_line
from v2w_convert.noise import Noise
from v2w_convert.onnx_export.conditions import Array, ConditionInput
from v2w_convert.onnx_export.onnx import MAX_DIFFERENCE, compare, open_session, write
from v2w_convert.onnx_export.step import StreamStep
from v2w_convert.sites import State
from v2w_convert.world.model import World
from v2w_convert.world.rollout import in_two_passes

ASKED = "compute by onnxruntime"
ADVICE = "--engine torch"
CHECKED_BLOCKS = 3  # of a rollout by both, before a graph is used
CHECKED_STEPS = 2


@dataclass(frozen=True)
class _Graph:
    """An exported step, opened.

    Attributes:
        session: An onnxruntime.InferenceSession.
        step: What was exported.
    """

    session: Any
    step: StreamStep


class OnnxWorld:
    """A world as rollouts need it (`StreamingModel`), on the CPU in float32.

    The graph is that of `v2w export`, for one rollout. It is made when the first block of a size is asked for, or is one
    that was kept (`graph_cache`), and is used only if a short rollout equals torch's within `MAX_DIFFERENCE`. Several
    rollouts are computed one after the other, and so are several blocks: a rollout does not depend on which others
    there are.

    Attributes:
        world: The same by torch.
        cache: The folder in which graphs are kept.
        base: Its denoiser, whose weights are looked at where numbers are not finite.
        noise: As of `World`; so are the two that follow.
        frames_per_block: Latent frames that are denoised at once.
        action_dim: a, numbers in an action.
    """

    def __init__(self, world: World, cache: Path | None = None):
        """Wrap a world on the CPU in float32.

        Args:
            world: The world.
            cache: A folder in which graphs are kept; None: that of the user.
        """
        self.world, self.base = world, world.base
        self.cache = default_folder() if cache is None else cache
        self.noise: Noise = world.noise
        self.frames_per_block, self.action_dim = world.frames_per_block, world.action_dim
        self._graphs: dict[tuple[Any, ...], _Graph] = {}

    @property
    def channels(self) -> int:
        """c, channels of a frame's latent."""
        return self.world.channels

    @property
    def dtype(self) -> torch.dtype:
        """Of latents and actions."""
        return self.world.dtype

    @property
    def device(self) -> torch.device:
        """Of latents and actions."""
        return self.world.device

    def empty_state(self, b: int, h: int, w: int, window: int | None = None) -> State:
        """The state before the first frame, as `World.empty_state`."""
        return self.world.empty_state(b, h, w, window)

    def clip_tokens(self, h: int, w: int, window: int | None = None) -> int:
        """Latent tokens of a clip as long as the view, as `World.clip_tokens`."""
        return self.world.clip_tokens(h, w, window)

    @torch.no_grad()
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

        Arguments and result are those of `World.forward_streamed`; conditions are given once per rollout.

        Raises:
            V2WError: torch cannot export the step, onnxruntime cannot run it, or its frames are not torch's.
        """
        b, t = latents.shape[:2]
        if actions is None:
            actions, dropped = torch.zeros(b, t, self.action_dim), torch.ones(b, t, dtype=torch.bool)
        elif dropped is None:
            dropped = torch.zeros(b, t, dtype=torch.bool)
        given = {"latents": latents, "noise_level": noise_level, "actions": actions, "dropped": dropped}
        graph = self._graph(state, latents, conditions)
        outputs, states = [], []
        for row in range(b):
            own = slice(row, row + 1)
            output, after = self._continued(
                graph,
                _kept(graph.step, state, own),
                {name: value[own] for name, value in given.items()},
                {f"condition.{name}": value[own].numpy() for name, value in conditions.items()},
                commit,
            )
            outputs.append(torch.from_numpy(output))
            states.append(after)
        return torch.cat(outputs), _joined(graph.step, states) if commit else state

    def forward_folded(
        self,
        state: State,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None = None,
        **conditions: Tensor,
    ) -> tuple[Tensor, State]:
        """As `World.forward_folded`, block by block: onnxruntime's passes have little that two would share."""
        return in_two_passes(self, state, latents, noise_level, actions, **conditions)

    def _continued(
        self,
        graph: _Graph,
        kept: dict[str, Array],
        given: dict[str, Tensor],
        conditions: dict[str, Array],
        commit: bool,
    ) -> tuple[Array, dict[str, Array]]:
        """One rollout's output (1 t c h w) for its next blocks, and what its stream keeps after them, if that is asked for."""
        n, t = self.frames_per_block, given["latents"].shape[1]
        outputs = []
        for first in range(0, t, n):
            block = {name: value[:, first : first + n].numpy() for name, value in given.items()}
            last = first + n == t
            names = graph.step.outputs if commit or not last else graph.step.outputs[:1]
            output, *after = graph.session.run(names, block | kept | conditions)
            if after:
                kept = dict(zip(graph.step.feedback, after, strict=True))
            outputs.append(output)
        return np.concatenate(outputs, 1) if len(outputs) > 1 else outputs[0], kept

    def _graph(self, state: State, latents: Tensor, conditions: dict[str, Tensor]) -> _Graph:
        """The step for this size, window and these conditions."""
        h, w = latents.shape[-2:]
        shapes = {name: tuple(value.shape[1:]) for name, value in conditions.items()}
        sizes = {tuple(value.shape[1:]) for own in state.sites.values() for value in own.values()}
        key = h, w, frozenset(sizes), frozenset(shapes.items())
        if key not in self._graphs:
            inputs = {
                name: ConditionInput(
                    shape=(1, *shape),
                    dtype=self.world.resolved.call.conditions[name].dtype,
                    source="rollout",
                    later_frames=None,
                )
                for name, shape in shapes.items()
            }
            self._graphs[key] = self._opened(state, (1, h, w), inputs)
        return self._graphs[key]

    def _opened(
        self, state: State, size: tuple[int, int, int], conditions: dict[str, ConditionInput]
    ) -> _Graph:
        """A graph that was kept, or a new one, which is kept."""
        resolved = self.world.resolved
        rings = {site: operation.ring_states for site, operation in resolved.sites.items()}
        slots = [
            own[name].shape[3] for site, own in state.sites.items() for name in rings[site] if name in own
        ]
        window = resolved.window or (max(slots, default=0) + 1) * self.frames_per_block
        one = State(
            state.cursor,
            {site: {name: value[:1] for name, value in own.items()} for site, own in state.sites.items()},
        )
        step = StreamStep(self.world, one, conditions).eval()
        facts = {
            "plan": resolved.plan.model_dump(mode="json"),
            "config": {name: repr(value) for name, value in resolved.config.items()},
            "size": size,
            "window": window,
            "actions": self.action_dim,
            "state": [[name, *one.sites[site][name].shape] for site, name in step.kept],
            "conditions": {name: wanted.model_dump(mode="json") for name, wanted in conditions.items()},
        }
        key = graph_key(self.world, facts)
        if (file := kept_graph(self.cache, key)) is not None:
            with suppress(Exception):  # whatever is wrong with it, it is made anew
                return self._compared(step, file, size, window)

        def make(file: Path) -> _Graph:
            write(step, one, size, window, file)
            return self._compared(step, file, size, window)

        try:
            return keep_graph(self.cache, key, make)
        except torch.onnx.OnnxExporterError as error:
            raise V2WError(ASKED, one_line(error), ADVICE) from error

    def _compared(self, step: StreamStep, file: Path, size: tuple[int, int, int], window: int) -> _Graph:
        """The graph in a file.

        Raises:
            V2WError: onnxruntime cannot run it, or its frames are not torch's.
        """
        blocks = CHECKED_BLOCKS * self.frames_per_block
        compared = compare(self.world, file, size, window, blocks, CHECKED_STEPS, step.conditions)
        if not compared.ok:
            found = f"its frames differ from torch's by {compared.largest_difference}, not at most {MAX_DIFFERENCE:g}"
            raise V2WError(ASKED, found, ADVICE)
        return _Graph(open_session(file, ADVICE), step)


def _kept(step: StreamStep, state: State, row: slice) -> dict[str, Array]:
    """One rollout's stream state as the graph takes it."""
    tensors = [state.cursor, *(state.sites[site][key][row] for site, key in step.kept)]
    return {name: tensor.numpy() for name, tensor in zip(step.feedback, tensors, strict=True)}


def _joined(step: StreamStep, rows: list[dict[str, Array]]) -> State:
    """The stream state of rollouts that have seen as many blocks."""
    sites: dict[str, dict[str, Tensor]] = {}
    cursor, *names = step.feedback
    for (site, key), name in zip(step.kept, names, strict=True):
        each = [torch.from_numpy(row[name]) for row in rows]
        sites.setdefault(site, {})[key] = torch.cat(each) if len(each) > 1 else each[0]
    return State(torch.from_numpy(np.asarray(rows[0][cursor])), sites)
