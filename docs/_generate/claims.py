"""The reference of claims, from their registry."""

from docs._generate.markdown import code, table
from v2w_convert.verification.catalogue import CATALOGUE

HEAD = """# Claims

Everything that `v2w verify` can state about a converted model. [Causality and claims](../concepts/causality.md) explains how they are
measured. The sentence that is printed may be more exact than the one here: it names the model's block, window and
data type.

*Stage* says to which models a claim applies: claims about equality with the base's weights hold for a converted model only, because
training changes the weights. A *figure* is a measurement that cannot fail.
"""


def claims_page() -> str:
    """The whole page."""
    topics = dict.fromkeys(about.topic for about in CATALOGUE.values())
    sections = [HEAD]
    for topic in topics:
        rows = [
            (code(name), about.sentence, ", ".join(about.stages), "figure" if about.figure else "")
            for name, about in CATALOGUE.items()
            if about.topic == topic
        ]
        sections.append(f"## {topic.capitalize()}\n\n" + table(["id", "claim", "stage", ""], rows))
    return "\n".join(sections)
