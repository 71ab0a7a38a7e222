"""A large file is converted one tensor at a time."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import lvdm
from v2w_convert.checkpoint.open import open_source
from v2w_convert.families.build import build_model
from v2w_convert.plan.registry import plan_for

CONVERT = """
import sys
from pathlib import Path
from v2w_convert.checkpoint.open import open_source
from v2w_convert.plan.registry import plan_for
from v2w_convert.plan.resolve import resolve
from v2w_convert.surgery.convert import convert
def kilobytes(what):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
before = kilobytes("VmRSS")
source = open_source(Path(sys.argv[1]))
resolved = resolve(plan_for(source.class_name), source.config, source.scheduler)
convert(source, resolved, Path(sys.argv[2]), action_dim=3)
print(kilobytes("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read as Linux tells them")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    tiny = plan_for("DynamiCrafterUNet").tiny | {"image_scale_learnable": False, "temporal_length": 16}
    with torch.device("meta"):
        model = build_model(
            "DynamiCrafterUNet",
            {**tiny, "model_channels": 96, "num_head_channels": 32, "channel_mult": [1, 2, 4, 4]},
        )
    unet = {name: torch.zeros(tensor.shape) for name, tensor in model.state_dict().items()}
    largest = max(tensor.numel() for tensor in unet.values()) * 4
    file = lvdm.save(lvdm.checkpoint(unet), tmp_path / "model.ckpt")
    assert file.stat().st_size > 180e6
    del unet
    assert open_source(file).config["channel_mult"] == [1, 2, 4, 4]
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, str(file), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    grown = int(done.stdout) * 1024
    # A transfer holds a few copies; what libraries load on first use is the rest.
    assert grown < 4 * largest + 80e6, f"{grown / 1e6:.0f} MB"
