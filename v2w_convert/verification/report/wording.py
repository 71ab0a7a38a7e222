"""The words of a report for a reader who does not know v2w: topics, the verdict, numbers."""

import re
from typing import Any

from v2w_convert.verification.claim import NOT_MEASURED, Status

TOPICS = {
    "causality": (
        "Does a frame see the future?",
        "Everything that comes after a frame is replaced: images, noise levels, actions, prompts. The output for that "
        "frame and earlier ones must not change, not by one bit.",
    ),
    "receptive-field": (
        "Does it see the past?",
        "A model that ignores all other frames would pass for causal. So each earlier frame is replaced as well, and that "
        "must have an effect.",
    ),
    "streaming": (
        "Is the output the same when it runs frame by frame?",
        "A world model runs step by step and keeps a stream state. That must give the same output as one pass over the "
        "whole clip.",
    ),
    "rollout": (
        "Is a rollout what it should be?",
        "Frames are generated one after the other from noise: shown the history with its actions, told every noise level in "
        "turn, guided, committed. A second loop, written for this comparison, passes the whole clip through the model at "
        "every step and keeps no stream state. Both must give the same frames.",
    ),
    "actions": (
        "What do actions change?",
        "Before training, an action must have no effect. After training, it must change the frame that it leads to, and "
        "none before it.",
    ),
    "experts": (
        "Is each denoiser asked at its noise levels?",
        "A model with two denoisers, each for a range of noise levels, must ask the one that its pipeline asks, and both must "
        "know the history.",
    ),
    "coverage": (
        "Has any module been missed?",
        "One frame is changed while every module of the base is watched: where other frames react, frames mix. Each such "
        "module must have an operation.",
    ),
    "identity": (
        "Is it still the same model?",
        "Every operation can be switched to its bidirectional form. The converted model must then give the base's output.",
    ),
    "noise": (
        "Does it speak of noise as its base does?",
        "The checkpoint's scheduler says how noise is added, which number the base is told for it, and how it is removed. The "
        "converted model is set beside that scheduler. A model that is told other numbers, or steps the wrong way, would be "
        "trained in a language that its base never learned.",
    ),
    "pipeline": (
        "Is it told what its pipeline tells it?",
        "The base's own pipeline of diffusers is run up to its first call of the model. What it gives the model is compared "
        "with what the converted model gives it.",
    ),
    "equivalence": (
        "Is every number accounted for?",
        "Files, config and tensors are compared with the base's, bit for bit, and each operation's invariants are measured.",
    ),
    "determinism": (
        "Is it repeatable?",
        "The same input is given again: in one run, in the next, in a rollout, and with gradient checkpointing.",
    ),
    "distance": (
        "How far is it from the base?",
        "A figure, neither right nor wrong: a model that cannot look ahead cannot give exactly the base's output.",
    ),
    "autoencoder": (
        "Does the autoencoder look ahead?",
        "An autoencoder, which conversion does not change, encodes frames to latents and decodes them. If it looks ahead, a "
        "rollout may only encode frames that have been observed. Figures, neither right nor wrong.",
    ),
}
"""Heading and introduction of each topic, in the order of the page."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

ClaimData = dict[str, Any]
"""A claim as in `Claim.as_json`."""


def group_failures(claims: list[ClaimData]) -> list[dict[str, Any]]:
    """Return the claims that fail, those with the same `where` together, in the order of the topics.

    Returns:
        For each group: `where`, `claims`, and `fixes`, each step once.
    """
    places: dict[str, list[ClaimData]] = {}
    for claim in sorted((claim for claim in claims if state(claim) == "fails"), key=rank):
        places.setdefault(claim["where"], []).append(claim)
    return [
        {
            "where": where,
            "claims": failing,
            "fixes": list(
                dict.fromkeys(
                    step for claim in failing for step in re.split(r"\n|; ", claim["fix"]) if step.strip()
                )
            ),
        }
        for where, failing in places.items()
    ]


def figures_of(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the figures of each denoiser, "high" and "low"; of a model with one, "" has all."""
    return {"high": figures, "low": figures["low_noise"]} if "low_noise" in figures else {"": figures}


def of_expert(name: str) -> str:
    """Return what follows the heading of a figure: of which denoiser it is."""
    return f" ({name}-noise expert)" if name else ""


def rank(claim: ClaimData) -> tuple[int, str]:
    """Return a key that sorts claims in the order of `TOPICS`."""
    topic = claim["topic"]
    return ([*TOPICS].index(topic) if topic in TOPICS else len(TOPICS), topic)


def heading(topic: str) -> str:
    """Return the heading of a topic."""
    return TOPICS[topic][0] if topic in TOPICS else topic.capitalize()


def count(number: int, noun: str) -> str:
    """Return "1 noun" or "2 nouns"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def state(claim: ClaimData) -> Status:
    """Return what came of a claim: "holds", "fails", "figure" (neither) or "not measured"."""
    status: Status = claim["status"]
    return status


def reason(claim: ClaimData) -> str:
    """Return why a claim was not measured."""
    how: str = claim["how"]
    return how.removeprefix(NOT_MEASURED)


def verdict(claims: list[ClaimData]) -> str:
    """Return the result of all claims in one sentence."""
    states = [state(claim) for claim in claims]
    holding, failing = states.count("holds"), states.count("fails")
    rest = states.count("not measured")
    missing = sum(claim["missing"] for claim in claims)
    left_out = f"; {rest} {'was' if rest == 1 else 'were'} not measured" if rest else ""
    if missing:
        left_out += f", {missing} of them of the core"
    if failing:
        return f"{failing} of {count(holding + failing, 'claim')} {'fails' if failing == 1 else 'fail'}{left_out}."
    held = f"ll {count(holding, 'claim')} that {'was' if holding == 1 else 'were'} measured hold{left_out}."
    return f"Not verified: a{held}" if missing else f"A{held}"


def number(value: float | None) -> str:
    """Return `value` in short: 0, 12, 0.034, 6.0 × 10⁻¹⁶; None stands for NaN or infinity."""
    if value is None:
        return "not finite"
    if value == round(value) and abs(value) < 1e6:
        return str(round(value))
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}"
    digits, power = f"{value:.1e}".split("e")
    times = "" if digits in ("1.0",) else f"{digits} × "
    return f"{times}10{str(int(power)).translate(SUPERSCRIPTS)}"


def readable(text: str) -> str:
    """Return `text` with numbers such as 1.6e-01 as `number` writes them."""
    return re.sub(r"\b\d+(\.\d+)?e[-+]\d+\b", lambda found: number(float(found[0])), text)
