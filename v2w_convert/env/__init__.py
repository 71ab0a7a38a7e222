"""A world model as a Gymnasium environment: importing this registers `v2w/World-v0`.

    import gymnasium
    import v2w_convert.env

    env = gymnasium.make("v2w/World-v0", world="RUN", starts="DATA")
    envs = gymnasium.make_vec("v2w/World-v0", num_envs=32, world="RUN", starts="DATA")

Arguments are those of `WorldEnv` and `WorldVectorEnv`.
"""

from v2w_convert.errors import V2WError

try:
    import gymnasium
except ImportError:
    raise V2WError(
        "import v2w_convert.env", "gymnasium is not installed", "pip install 'v2w-convert[env]'"
    ) from None

from v2w_convert.env.environment import WorldEnv
from v2w_convert.env.streams import Branch
from v2w_convert.env.vector import WorldVectorEnv

ID = "v2w/World-v0"

if ID not in gymnasium.registry:
    gymnasium.register(
        ID,
        entry_point="v2w_convert.env.environment:WorldEnv",
        vector_entry_point="v2w_convert.env.vector:WorldVectorEnv",
    )

__all__ = ["ID", "Branch", "WorldEnv", "WorldVectorEnv"]
