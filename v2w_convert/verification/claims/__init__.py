"""The claims of `v2w verify`: one module for each topic, which measures its claims and lists them in `CHECKS`.

A new claim is a `ClaimSpec`, a function that measures it, and a `Check` in one of these modules. A new module is added to
`MODULES` below. Within a phase, checks run in the order of `MODULES` and `CHECKS`: the budget is spent on the first ones.
"""

from v2w_convert.verification.claim import ClaimSpec
from v2w_convert.verification.claims import (
    action_numbers,
    actions,
    autoencoder,
    base_call,
    causality,
    conditions,
    coverage,
    determinism,
    distance,
    edits,
    experts,
    files,
    gradients,
    identity,
    influence,
    invariants,
    modes,
    noise,
    pipeline,
    receptive_field,
    rollout,
    streaming,
    tensors,
    weights,
)
from v2w_convert.verification.engine.check import Check

MODULES = (
    tensors,
    weights,
    files,
    edits,
    autoencoder,
    influence,
    coverage,
    identity,
    base_call,
    pipeline,
    invariants,
    noise,
    causality,
    receptive_field,
    actions,
    action_numbers,
    distance,
    determinism,
    gradients,
    streaming,
    modes,
    conditions,
    rollout,
    experts,
)
CHECKS: tuple[Check, ...] = tuple(check for module in MODULES for check in module.CHECKS)
SPECS: dict[str, ClaimSpec] = {spec.id: spec for check in CHECKS for spec in check.specs}
"""Every claim by its id."""
