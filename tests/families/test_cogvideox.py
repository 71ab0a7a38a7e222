import pytest
from diffusers.models.transformers.transformer_easyanimate import EasyAnimateRotaryPosEmbed

from v2w_convert.families.cogvideox import covered


@pytest.mark.parametrize("grid", [(30, 45), (4, 4), (60, 20), (20, 60), (31, 45), (7, 13)])
def test_a_grid_covers_what_diffusers_says(grid: tuple[int, int]) -> None:
    """EasyAnimate's model has the function that CogVideoX's pipeline has."""
    rope = EasyAnimateRotaryPosEmbed(2, [16])
    assert covered(grid, (30, 45)) == rope.get_resize_crop_region_for_grid(grid, 45, 30)
