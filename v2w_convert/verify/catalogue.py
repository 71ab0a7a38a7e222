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
    "gradients-reach-past": About("past"),
    "streamed-by-block": About("streaming"),
    "streamed-in-chunks": About("streaming"),
    "actions-unheeded": About("actions", CONVERTED),
    "action-heeded": About("actions"),
    "action-not-before": About("actions"),
    "first-action-unread": About("actions"),
    "null-is-not-zero": About("actions"),
    "action-moves-next": About("actions"),
    "deterministic": About("determinism"),
    "distance": About("distance", figure=True),
    "autoencoder-encode": About("autoencoder", figure=True),
    "autoencoder-decode": About("autoencoder", figure=True),
}
