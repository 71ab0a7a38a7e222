"""Noise, one level per frame: how it is added, which number the base receives for it, how it is removed.

A *noise level* is 0 for a clean frame and grows with the noise. Its unit is the kind's own:

    ddpm   the training timestep, 0 … N-1; level 0 is exactly clean           (DDPM, arXiv 2006.11239)
    edm    sigma, the noise's standard deviation, of data with deviation 1    (EDM, arXiv 2206.00364)
    flow   the share of noise, 0 … 1                                          (flow matching, arXiv 2210.02747)

Shapes: frames are (b t c h w), levels (b t). Tables, levels and steps are those of the scheduler of diffusers that the
checkpoint names.
"""

from v2w_convert.noise.base import Noise
from v2w_convert.noise.from_scheduler import check_sampling, noise_spec_from_scheduler
from v2w_convert.noise.kinds import KINDS
from v2w_convert.noise.sampler import Sampler
from v2w_convert.noise.spec import NoiseSpec

__all__ = ["KINDS", "Noise", "NoiseSpec", "Sampler", "check_sampling", "noise_spec_from_scheduler"]
