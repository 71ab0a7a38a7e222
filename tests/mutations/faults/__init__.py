"""Ways to break a world model while it runs: each changes one live module, or the world around the modules.

Faults of one module are functions of it, and can be made rarer: `only(fault, where it happens)`.
"""

from tests.mutations.faults.acted import *  # noqa: F403
from tests.mutations.faults.around import *  # noqa: F403
from tests.mutations.faults.carried import *  # noqa: F403
from tests.mutations.faults.convolved import *  # noqa: F403
from tests.mutations.faults.means import Broken, Fault, at, broken  # noqa: F401
from tests.mutations.faults.placed import *  # noqa: F403
from tests.mutations.faults.rarer import *  # noqa: F403
from tests.mutations.faults.repeated import *  # noqa: F403
from tests.mutations.faults.seen import *  # noqa: F403
