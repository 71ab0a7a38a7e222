"""How a report speaks to a reader who knows nothing of it: topics, the verdict, numbers."""

import re
from typing import Any

from v2w_convert.verification.catalogue import CATALOGUE

TOPICS = {
    "causality": (
        "Does a frame see the future?",
        "Everything that comes after a frame is replaced: pictures, noise levels, actions, prompts. Nothing that comes "
        "out for that frame or an earlier one may change, not by the last bit.",
    ),
    "past": (
        "Does it see the past?",
        "A model that ignores everything would pass for causal. So each earlier frame is replaced as well, and that "
        "must have an effect.",
    ),
    "streaming": (
        "Is it the same when it runs frame by frame?",
        "A world model runs step by step and remembers what it has worked out. That must give what one pass over the "
        "whole clip gives.",
    ),
    "actions": (
        "What do actions do?",
        "Until it has been trained, an action must do nothing. Once it has, it must change the frame that it led to, "
        "and none before.",
    ),
    "coverage": (
        "Was a module forgotten?",
        "One frame is changed, and every module of the base is watched: where other frames react, frames mix. Each "
        "such module must have been operated on.",
    ),
    "identity": (
        "Is it still the same model?",
        "Every change can be switched back to its two-sided form. The converted model must then give what the base gives.",
    ),
    "equivalence": (
        "Is every number accounted for?",
        "Files, settings and tensors are compared with the base's, bit for bit, and each kind of change is held to what "
        "it promises to keep.",
    ),
    "determinism": (
        "Is it repeatable?",
        "The same input is given again: in one run, in the next, and in a rollout.",
    ),
    "distance": (
        "How far is it from the base?",
        "A figure, neither right nor wrong: a model that may no longer look ahead cannot give quite what it gave.",
    ),
    "autoencoder": (
        "Does the autoencoder look ahead?",
        "Pictures are turned into latents and back by a model of their own, which conversion leaves as it is. Where it looks "
        "ahead, a rollout may only encode what has been shown. Figures, neither right nor wrong.",
    ),
}  # in the order in which a page tells of them

LEFT_OUT = "not measured: "  # how `not_measured` begins
DIGITS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def faults(claims: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The claims that fail; those that blame the same place together, with what to do, each step once."""
    places: dict[str, list[dict[str, Any]]] = {}
    for claim in sorted((claim for claim in claims if state(claim) == "fails"), key=rank):
        places.setdefault(claim["where"], []).append(claim)
    return [
        {
            "where": where,
            "claims": broken,
            "mends": list(
                dict.fromkeys(
                    step for claim in broken for step in re.split(r"\n|; ", claim["mend"]) if step.strip()
                )
            ),
        }
        for where, broken in places.items()
    ]


def rank(claim: dict[str, Any]) -> tuple[int, str]:
    """By which claims are put in the order of TOPICS."""
    topic = CATALOGUE[claim["name"]].topic
    return ([*TOPICS].index(topic) if topic in TOPICS else len(TOPICS), topic)


def heading(topic: str) -> str:
    return TOPICS[topic][0] if topic in TOPICS else topic.capitalize()


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def state(claim: dict[str, Any]) -> str:
    """Of `claim`, as in `Claim.as_json`: fails, holds, not measured, or figure, which does neither."""
    if claim["how"].startswith(LEFT_OUT):
        return "not measured"
    return "figure" if CATALOGUE[claim["name"]].figure else "holds" if claim["ok"] else "fails"


def reason(claim: dict[str, Any]) -> str:
    """Why it was not measured."""
    return claim["how"].removeprefix(LEFT_OUT)


def verdict(claims: list[dict[str, Any]]) -> str:
    """One sentence."""
    states = [state(claim) for claim in claims]
    holds, fails, open_ = (states.count(name) for name in ("holds", "fails", "not measured"))
    left_out = f"; {open_} {'was' if open_ == 1 else 'were'} not measured" if open_ else ""
    if fails:
        return f"{fails} of {count(holds + fails, 'claim')} {'fails' if fails == 1 else 'fail'}{left_out}."
    return f"All {count(holds, 'claim')} that {'was' if holds == 1 else 'were'} measured hold{left_out}."


def number(value: float | None) -> str:
    """Short and exact where it can be: 0, 12, 0.034, 6.0 × 10⁻¹⁶."""
    if value is None:
        return "not a finite number"
    if value == round(value) and abs(value) < 1e6:
        return str(round(value))
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}"
    digits, power = f"{value:.1e}".split("e")
    times = "" if digits in ("1.0",) else f"{digits} × "
    return f"{times}10{str(int(power)).translate(DIGITS)}"


def readable(text: str) -> str:
    """`text` with numbers such as 1.6e-01 as `number` writes them."""
    return re.sub(r"\b\d+(\.\d+)?e[-+]\d+\b", lambda found: number(float(found[0])), text)
