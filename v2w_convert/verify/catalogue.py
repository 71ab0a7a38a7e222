"""Every claim that `v2w verify` may make: its name, what it is about, and the stages of a model at which it applies."""

from typing import Literal, NamedTuple

Stage = Literal["converted", "finetuned"]
BOTH: tuple[Stage, ...] = ("converted", "finetuned")
CONVERTED: tuple[Stage, ...] = ("converted",)  # training changes the weights


class About(NamedTuple):
    """What a claim is about, as a heading, and when it applies.

    figure  it is a measurement that is neither right nor wrong
    """

    topic: str
    stages: tuple[Stage, ...] = BOTH
    figure: bool = False


CATALOGUE = {
    "tensors-complete": About("equivalence"),
    "base-tensors-complete": About("equivalence"),
    "files": About("equivalence"),
    "base-files": About("equivalence"),
    "config": About("equivalence"),
    "tensors-kept": About("equivalence", CONVERTED),
    "tensors-transferred": About("equivalence", CONVERTED),
    "tensors-exact": About("equivalence", CONVERTED),
    "tensors-added": About("equivalence", CONVERTED),
    "promises": About("equivalence", CONVERTED),
    "coverage": About("coverage"),
    "base-mixes": About("coverage"),
    "identity": About("identity"),
    "future-unseen": About("causality"),
    "future-unseen-stored": About("causality"),
    "clips-apart": About("causality"),
    "sites-blind-to-future": About("causality"),
    "gradients-not-forward": About("causality"),
    "checkpointing-same": About("causality"),
    "past-seen": About("past"),
    "sites-see-past": About("past"),
    "sites-see-past-stored": About("past"),
    "sites-keep-last": About("past"),
    "gradients-reach-past": About("past"),
    "streamed-by-block": About("streaming"),
    "streamed-in-chunks": About("streaming"),
    "actions-unheeded": About("actions", CONVERTED),
    "action-heeded": About("actions"),
    "action-not-before": About("actions"),
    "first-action-unread": About("actions"),
    "null-is-not-zero": About("actions"),
    "action-moves-next": About("actions"),
    "dropped-is-none": About("actions"),
    "deterministic": About("determinism"),
    "deterministic-stored": About("determinism"),
    "distance": About("distance", figure=True),
    "autoencoder-encode": About("autoencoder", figure=True),
    "autoencoder-decode": About("autoencoder", figure=True),
}

# What is said of a claim that was not measured; one that was has the sentence that fits its model.
SENTENCES = {
    "files": "The weight files are the ones that the manifest describes",
    "base-files": "The base is the one that was converted",
    "config": "The model's config is the base's",
    "tensors-kept": "Every kept tensor is the base's, bit for bit",
    "tensors-transferred": "Every transferred tensor is what the plan makes of the base's, bit for bit",
    "tensors-exact": "Every number of a transferred tensor is that of float64 arithmetic, to one unit in its last place",
    "tensors-added": "Every added tensor is what the manifest's seed gives, bit for bit",
    "promises": "Every operation keeps at every site what it promises",
    "coverage": "Every module through which the base's frames mix has an operation",
    "base-mixes": "The base's frames do see the next one, so the measurement can see that",
    "identity": "With every operation in its bidirectional form, the folded model is the base",
    "future-unseen": "No frame sees a later one, in float64",
    "future-unseen-stored": "No frame sees a later one, in the stored precision",
    "clips-apart": "Clips of one batch do not see each other",
    "sites-blind-to-future": "No site sees a later frame or another clip",
    "gradients-not-forward": "No gradient runs from a frame's output to a later frame",
    "past-seen": "Every frame sees itself and those before it",
    "sites-see-past": "Every site sees its past, as far back as it reaches",
    "sites-see-past-stored": "Every site sees the frame before, in the stored precision",
    "sites-keep-last": "At a clip's last frame, every attention gives what its bidirectional form does",
    "gradients-reach-past": "Gradients run from every frame's output to itself and those before it",
    "streamed-by-block": "Streamed block by block, the output is that of one pass over the whole clip",
    "streamed-in-chunks": "Streamed in chunks of mixed sizes, the output is that of one pass over the whole clip",
    "actions-unheeded": "Before training, the output is the same whatever the action",
    "action-heeded": "An action changes the frame that it led to",
    "action-not-before": "An action changes no frame before it",
    "first-action-unread": "The first frame's action is never looked at",
    "null-is-not-zero": "No action is another thing than the zero action",
    "action-moves-next": "In a rollout, an action moves the very next frame",
    "dropped-is-none": "A dropped action is no action",
    "deterministic": "The same input gives the same output, bit for bit, in float64",
    "deterministic-stored": "The same input gives the same output, bit for bit, in the stored precision",
    "checkpointing-same": "Under gradient checkpointing, output and gradient are the same",
    "distance": "How far the output is from the base's, for its size",
    "autoencoder-encode": "How much of later pictures reaches earlier latents",
    "autoencoder-decode": "How much of later latents reaches earlier pictures",
}
