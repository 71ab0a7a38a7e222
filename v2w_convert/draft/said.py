"""A call in numbers, as one in entries of the base's config; and what is open about it, for the draft to say."""

import re
from typing import Any

from v2w_convert.draft.entries import TEXT_LENGTHS, channels_of, difference_of, width_of
from v2w_convert.plan.grammar import Call, Condition

LETTERS = "nmkijlpq"
USUAL = {"text": 512, "image_embeds": 257}  # tokens of T5's prompts, and of CLIP's images


def said(call: Call, config: dict[str, Any], parameters: list[str]) -> tuple[Call, dict[str, str]]:
    """The call, and place in the plan -> what is open there. `parameters` are all arguments of the forward."""
    notes: dict[str, str] = {}
    tokens, letters = _tokens(call, config, notes)
    conditions = {}
    for name, condition in call.conditions.items():
        shape = _shape(name, condition, letters, call, config)
        conditions[name] = condition.model_copy(update={"shape": shape})
        if note := _open(name, shape):
            notes[f"conditions.{name}"] = note
    beside = "image_latents" in call.conditions
    channels = channels_of(int(call.latents.channels), config, "out" if beside else "in")
    latents = call.latents.model_copy(update={"channels": channels})
    if call.computed_arguments is not None:
        notes["computed_arguments"] = (
            "the base runs with these tables and heeds them; its pipeline says if they are right"
        )
    given = {latents.argument, call.noise_level.argument, *call.size_arguments}
    given |= {condition.argument for condition in conditions.values() if condition.argument is not None}
    tables = r"|rot|rope" if call.computed_arguments is not None else ""
    left = [n for n in parameters if n not in given and not re.search(rf"kwargs|return_dict{tables}", n)]
    if left:
        notes["call"] = f"not given, though its pipeline may: {', '.join(left)}"
    changed = {"latents": latents, "conditions": conditions, "token_counts": tokens}
    return call.model_copy(update=changed), notes


def _tokens(
    call: Call, config: dict[str, Any], notes: dict[str, str]
) -> tuple[dict[str, int], dict[str, str]]:
    """How many tokens the nulls have, by letter; and the letter of every condition whose number of them is free.

    A mask has as many as its text.
    """
    tokens: dict[str, int] = {}
    letters: dict[str, str] = {}
    for name, condition in call.conditions.items():
        if condition.shape[:1] != ("n",):
            continue
        text = name.replace("text_mask", "text")
        if text not in letters:
            letters[text] = letter = LETTERS[len(tokens)]
            lengths = [config[k] for k in config if TEXT_LENGTHS.search(k) and isinstance(config[k], int)]
            if lengths and text != "image_embeds":
                tokens[letter] = lengths[0]
            else:
                tokens[letter] = USUAL["image_embeds" if text == "image_embeds" else "text"]
                notes[f"token_counts.{letter}"] = f"how many tokens of {name} the null should have is a guess"
        letters[name] = letters[text]
    return tokens, letters


def _shape(
    name: str, condition: Condition, letters: dict[str, str], call: Call, config: dict[str, Any]
) -> tuple[int | str, ...]:
    shape = [letters.get(name, size) if size == "n" else size for size in condition.shape]
    if "h" in condition.shape:
        own = int(shape[0])
        if name == "image_latents":
            shape[0] = difference_of(own, config) or own
        elif own == call.latents.channels:
            shape[0] = channels_of(own, config, "in")
        else:
            shape[0] = difference_of(own, config) or width_of(name, own, config)
    elif shape and isinstance(shape[-1], int):
        about = (
            condition.argument if name not in ("image_embeds", "pooled_text") and condition.argument else name
        )
        shape[-1] = width_of(f"{name}_{about}", shape[-1], config)
    return tuple(shape)


def _open(name: str, shape: tuple[int | str, ...]) -> str:
    """What is open about a condition of this shape; "" if nothing is."""
    if name == "image_latents":
        return "channels beside the noisy frame's: an image's latent, a mask? zeros where not given"
    if not shape:
        return "one number, and its pipeline says which; 0 is a guess"
    if len(shape) == 1 and isinstance(shape[0], int):
        return "some numbers, and its pipeline says which; zeros are a guess"
    return ""
