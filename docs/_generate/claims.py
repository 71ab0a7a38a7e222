"""The reference of claims, from their registry."""

from docs._generate.markdown import code, table
from v2w_convert.verification.claim import ALL_STAGES
from v2w_convert.verification.claims import SPECS
from v2w_convert.verification.report.wording import TOPICS

HEAD = """# Claims

Everything that `v2w verify` can state about a converted model. [Causality and claims](../concepts/causality.md)
explains how they are measured. The sentence that is printed may be more exact than the one here: it names the model's
block, window and data type.

- **stage**: the models to which a claim applies. Claims about equality with the base's weights hold for a *converted*
  model; a base that was *trained with actions* (Vid2World) has lost some of them, and a *finetuned* one more.
- **base**: whether the base is needed, by `--base`.
- **core**: a model is verified only if these were measured, as far as they apply to its stage and the base is given. If
  `--budget` leaves no time for one, `v2w verify` ends with exit code 3.
- A **figure** is a measurement that cannot fail.
"""


def claims_page() -> str:
    """The whole page."""
    sections = [HEAD]
    for topic, (heading, introduction) in TOPICS.items():
        rows = []
        for spec in SPECS.values():
            if spec.topic == topic:
                stages = "all" if spec.stages == ALL_STAGES else ", ".join(spec.stages).replace("_", " ")
                sentence = spec.sentence + (" (figure)" if spec.figure else "")
                rows.append(
                    (
                        code(spec.id),
                        sentence,
                        stages,
                        "needed" if spec.needs_base else "",
                        "core" if spec.core else "",
                    )
                )
        if rows:
            sections.append(
                f"## {heading}\n\n{introduction}\n\n{table(['id', 'claim', 'stage', 'base', 'core'], rows)}"
            )
    return "\n".join(sections)
