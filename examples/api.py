"""Convert the Doom base, verify it and roll it out from Python: python examples/api.py FOLDER"""

import sys
from pathlib import Path

import v2w_convert as v2w

doom, out = Path(__file__).parent / "doom", Path(sys.argv[1])
v2w.convert(doom / "base", out / "world", v2w.ConvertSettings(action_dim=3))
print("every claim holds:", v2w.verify(out / "world", doom / "base").ok)
v2w.rollout(out / "world", doom / "data/test", out / "rollout.gif", v2w.RolloutSettings(frames=16))
