"""README.md of a converted folder: what it is, for whoever opens it without knowing."""

from typing import Any

from v2w_convert.surgery.manifest import Manifest

CARD = "README.md"


def card(manifest: Manifest) -> str:
    """Markdown with the header that model hubs read."""
    plan = manifest.plan
    base = manifest.source["name"]
    fates = list(manifest.tensors.values())
    counts = ", ".join(f"{fates.count(fate)} {fate}" for fate in ("kept", "transferred", "added"))
    operations = [
        f"- `{name}` at `{fields['at']}`{_options(fields)}"
        for op in plan["operations"]
        for name, fields in op.items()
    ]
    imported = manifest.stage == "finetuned" and manifest.finetuning is None
    stage = (
        "It came with trained actions, which were left as they are."
        if imported
        else "It is **converted, not yet finetuned**: actions have no effect, and pictures suffer from the missing future."
        if manifest.finetuning is None
        else f"It was finetuned on action data for {manifest.finetuning['steps']} steps."
    )
    return f"""---
library_name: v2w-convert
base_model_relation: finetune
tags: [world-model, video]
---

# A world model made of {base}

A causal, action-conditioned video denoiser: frame t is predicted from frames up to t and the action that led to it
({manifest.action_dim} numbers). {stage}

```python
import v2w_convert
world = v2w_convert.load("this folder")
```

Loaded by diffusers alone, the same files would run as the two-sided video model that they no longer are.

Made by v2w {manifest.version} with the plan `{plan["name"]}` ([Vid2World](https://arxiv.org/abs/2505.14357)); tensors of the
base: {counts}. `v2w.json` holds the whole record; `v2w verify` measures what it promises.

{chr(10).join(operations)}
"""


def _options(fields: dict[str, Any]) -> str:
    told = {key: value for key, value in fields.items() if key != "at" and value not in (None, False)}
    options = [f"{key} {value}" for key, value in told.items() if not isinstance(value, dict)]
    options += [key for key, value in told.items() if isinstance(value, dict)]
    return f": {', '.join(options)}" if options else ""
