"""Print the lowest versions that pyproject.toml allows, as constraints for pip: `NAME==FLOOR`, one a line.

python .ci/floors.py EXTRA … > lowest.txt
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
FLOOR = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?>=([0-9.]+)")


def floors(project: dict[str, object], extras: list[str]) -> list[str]:
    """The constraints of a project's own dependencies and those of its extras, from pyproject.toml's table `project`."""
    listed = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    found = [FLOOR.match(requirement) for requirements in listed for requirement in requirements]
    return [f"{match[1]}=={match[2]}" for match in found if match]


if __name__ == "__main__":
    print(*floors(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"], sys.argv[1:]), sep="\n")
