"""Every kind of noise by its name in plans."""

from v2w_convert.noise.base import Noise
from v2w_convert.noise.ddpm import Ddpm
from v2w_convert.noise.edm import Edm
from v2w_convert.noise.flow import Flow

KINDS: dict[str, type[Noise]] = {"ddpm": Ddpm, "edm": Edm, "flow": Flow}
"""Every kind of noise by its name in plans."""
