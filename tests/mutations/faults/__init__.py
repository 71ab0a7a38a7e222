"""Ways to break a world model while it runs: each changes one live module, or the world around the modules.

Faults of one module are functions of it, and can be made rarer: `only(fault, where it happens)`.
"""

from tests.mutations.faults.actions import *  # noqa: F403
from tests.mutations.faults.conditional import *  # noqa: F403
from tests.mutations.faults.convolution import *  # noqa: F403
from tests.mutations.faults.determinism import *  # noqa: F403
from tests.mutations.faults.modes import *  # noqa: F403
from tests.mutations.faults.noise import *  # noqa: F403
from tests.mutations.faults.pipeline import *  # noqa: F403
from tests.mutations.faults.positions import *  # noqa: F403
from tests.mutations.faults.rarely import *  # noqa: F403
from tests.mutations.faults.stream_state import *  # noqa: F403
from tests.mutations.faults.tools import Fault, WorldFault, at, broken  # noqa: F401
from tests.mutations.faults.visibility import *  # noqa: F403
from tests.mutations.faults.world import *  # noqa: F403
