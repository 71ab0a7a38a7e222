"""A call in plain numbers -> the same in keys of the base's config, and what is open about it."""

import re
from typing import Any

from v2w_convert.draft.config_keys import channels_key, extra_channels, text_lengths, width_key
from v2w_convert.plan.grammar import Call, Condition

LETTERS = "nmkijlpq"
USUAL_TOKENS = {"text": 512, "image_embeds": 257}  # of T5's prompts, and of CLIP's images


def with_config_keys(call: Call, config: dict[str, Any], arguments: list[str]) -> tuple[Call, dict[str, str]]:
    """The call in keys of the config.

    Args:
        call: In numbers.
        config: The base's.
        arguments: All arguments of its forward.

    Returns:
        The call, and what is open about it: key of the plan -> sentence.
    """
    notes: dict[str, str] = {}
    tokens, letters = _token_counts(call, config, notes)
    conditions = {}
    for name, condition in call.conditions.items():
        shape = _symbolic_shape(name, condition, letters, call, config)
        conditions[name] = condition.model_copy(update={"shape": shape})
        if note := _open_question(name, shape):
            notes[f"conditions.{name}"] = note
    preferred = "out" if "image_latents" in call.conditions else "in"
    channels = channels_key(int(call.latents.channels), config, preferred)
    latents = call.latents.model_copy(update={"channels": channels})
    if call.computed_arguments is not None:
        notes["computed_arguments"] = (
            "the base accepts these tables, and its output depends on them; compare with its pipeline"
        )
    if unused := _unused_arguments(call, arguments):
        notes["call"] = f"arguments that are not passed, though the base's pipeline may: {', '.join(unused)}"
    changed = {"latents": latents, "conditions": conditions, "token_counts": tokens}
    return call.model_copy(update=changed), notes


def _unused_arguments(call: Call, arguments: list[str]) -> list[str]:
    used = {call.latents.argument, call.noise_level.argument, *call.size_arguments}
    used |= {c.argument for c in call.conditions.values() if c.argument is not None}
    tables = r"|rot|rope" if call.computed_arguments is not None else ""
    return [
        name for name in arguments if name not in used and not re.search(rf"kwargs|return_dict{tables}", name)
    ]


def _token_counts(
    call: Call, config: dict[str, Any], notes: dict[str, str]
) -> tuple[dict[str, int], dict[str, str]]:
    """The tokens of the null conditions: letter -> number, and condition -> letter. A mask has its text's letter."""
    tokens: dict[str, int] = {}
    letters: dict[str, str] = {}
    for name, condition in call.conditions.items():
        if condition.shape[:1] != ("n",):
            continue
        text = name.replace("text_mask", "text")
        if text not in letters:
            letters[text] = letter = LETTERS[len(tokens)]
            lengths = list(text_lengths(config).values())
            if lengths and text != "image_embeds":
                tokens[letter] = lengths[0]
            else:
                tokens[letter] = USUAL_TOKENS["image_embeds" if text == "image_embeds" else "text"]
                notes[f"token_counts.{letter}"] = f"the number of tokens of a null {name} is a guess"
        letters[name] = letters[text]
    return tokens, letters


def _symbolic_shape(
    name: str, condition: Condition, letters: dict[str, str], call: Call, config: dict[str, Any]
) -> tuple[int | str, ...]:
    shape = [letters.get(name, size) if size == "n" else size for size in condition.shape]
    if "h" in condition.shape:
        shape[0] = _symbolic_channels(name, int(shape[0]), call, config)
    elif shape and isinstance(shape[-1], int):
        descriptive = name in ("image_embeds", "pooled_text") or not condition.argument
        about = name if descriptive else condition.argument
        shape[-1] = width_key(f"{name}_{about}", shape[-1], config)
    return tuple(shape)


def _symbolic_channels(name: str, channels: int, call: Call, config: dict[str, Any]) -> int | str:
    """The channels of a condition that is as large as a frame."""
    if name == "image_latents":
        return extra_channels(channels, config) or channels
    if channels == call.latents.channels:
        return channels_key(channels, config, "in")
    return extra_channels(channels, config) or width_key(name, channels, config)


def _open_question(name: str, shape: tuple[int | str, ...]) -> str:
    """What is open about a condition of this shape; "" if nothing is."""
    if name == "image_latents":
        return (
            "channels besides the noisy frames': an image's latent, a mask? Zeros where none are given; one that is given "
            "once goes to every frame (later_frames)"
        )
    if not shape:
        return "one number, which the base's pipeline sets; 0 is a guess"
    if len(shape) == 1 and isinstance(shape[0], int):
        return "some numbers, which the base's pipeline sets; zeros are a guess"
    return ""
