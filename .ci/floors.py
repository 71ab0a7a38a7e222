"""Print constraints for pip: the lowest versions that pyproject.toml allows, or none, for the newest ones.

python .ci/floors.py lowest
python .ci/floors.py newest
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
EXTRAS = ("export", "hdf5", "text")
FLOOR = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")


def floors(project: dict[str, Any]) -> list[str]:
    """`NAME==FLOOR` of every package that a project needs, from the table `project` of pyproject.toml.

    Raises:
        ValueError: A package has no floor.
    """
    found = []
    for needed in (project["dependencies"], *(project["optional-dependencies"][extra] for extra in EXTRAS)):
        for requirement in needed:
            if not (match := FLOOR.match(requirement)):
                raise ValueError(f"{requirement} has no floor")
            found.append(f"{match[1]}=={match[2]}")
    return found


if __name__ == "__main__":
    [which] = sys.argv[1:]
    if which == "lowest":
        print(*floors(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]), sep="\n")
