"""Every claim that `v2w verify` may make: its name, its sentence, what it is about, and the stages at which it applies."""

from typing import Literal, NamedTuple

Stage = Literal["converted", "finetuned"]
BOTH: tuple[Stage, ...] = ("converted", "finetuned")
CONVERTED: tuple[Stage, ...] = ("converted",)  # training changes the weights


class About(NamedTuple):
    """What a claim says, and when.

    topic     what it is about, as a heading
    sentence  where the model's own (with its unit of time, its dtype) is not more exact
    figure    it is a measurement that is neither right nor wrong
    """

    topic: str
    sentence: str
    stages: tuple[Stage, ...] = BOTH
    figure: bool = False


CATALOGUE = {
    "tensors-complete": About("equivalence", "The model has exactly the tensors that the plan makes"),
    "base-tensors-complete": About(
        "equivalence", "The base has exactly the tensors that the config describes"
    ),
    "files": About("equivalence", "The weight files are the ones that the manifest describes"),
    "base-files": About("equivalence", "The base is the one that was converted"),
    "config": About("equivalence", "The model's config is the base's"),
    "tensors-kept": About("equivalence", "Every kept tensor is the base's, bit for bit", CONVERTED),
    "tensors-transferred": About(
        "equivalence", "Every transferred tensor is what the plan makes of the base's, bit for bit", CONVERTED
    ),
    "tensors-exact": About(
        "equivalence",
        "Every number of a transferred tensor is that of float64 arithmetic, to one unit in its last place",
        CONVERTED,
    ),
    "tensors-added": About(
        "equivalence", "Every added tensor is what the manifest's seed gives, bit for bit", CONVERTED
    ),
    "promises": About("equivalence", "Every operation keeps at every site what it promises", CONVERTED),
    "coverage": About("coverage", "Every module through which the base's frames mix has an operation"),
    "base-mixes": About("coverage", "The base's frames do see the next one, so the measurement can see that"),
    "identity": About(
        "identity", "With every operation in its bidirectional form, the folded model is the base"
    ),
    "future-unseen": About("causality", "No frame sees a later one, in float64"),
    "future-unseen-stored": About("causality", "No frame sees a later one, in the stored precision"),
    "clips-apart": About("causality", "Clips of one batch do not see each other"),
    "sites-blind-to-future": About("causality", "No site sees a later frame or another clip"),
    "gradients-not-forward": About("causality", "No gradient runs from a frame's output to a later frame"),
    "checkpointing-same": About(
        "causality", "Under gradient checkpointing, output and gradient are the same"
    ),
    "past-seen": About("past", "Every frame sees itself and those before it"),
    "sites-see-past": About("past", "Every site sees its past, as far back as it reaches"),
    "sites-see-past-stored": About("past", "Every site sees the frame before, in the stored precision"),
    "sites-keep-last": About(
        "past", "At a clip's last frame, every attention gives what its bidirectional form does"
    ),
    "gradients-reach-past": About(
        "past", "Gradients run from every frame's output to itself and those before it"
    ),
    "streamed-by-block": About(
        "streaming", "Streamed block by block, the output is that of one pass over the whole clip"
    ),
    "streamed-in-chunks": About(
        "streaming", "Streamed in chunks of mixed sizes, the output is that of one pass over the whole clip"
    ),
    "actions-unheeded": About(
        "actions", "Before training, the output is the same whatever the action", CONVERTED
    ),
    "action-heeded": About("actions", "An action changes the frame that it led to"),
    "action-not-before": About("actions", "An action changes no frame before it"),
    "first-action-unread": About("actions", "The first frame's action is never looked at"),
    "null-is-not-zero": About("actions", "No action is another thing than the zero action"),
    "action-moves-next": About("actions", "In a rollout, an action moves the very next frame"),
    "dropped-is-none": About("actions", "A dropped action is no action"),
    "deterministic": About("determinism", "The same input gives the same output, bit for bit, in float64"),
    "deterministic-stored": About(
        "determinism", "The same input gives the same output, bit for bit, in the stored precision"
    ),
    "distance": About("distance", "How far the output is from the base's, for its size", figure=True),
    "autoencoder-encode": About(
        "autoencoder", "How much of later pictures reaches earlier latents", figure=True
    ),
    "autoencoder-decode": About(
        "autoencoder", "How much of later latents reaches earlier pictures", figure=True
    ),
}
