"""Every release that is known here, by name."""

from tests.pipelines.release import Release
from tests.pipelines.releases.cogvideox import COGVIDEOX_RELEASES
from tests.pipelines.releases.cosmos import COSMOS_RELEASES
from tests.pipelines.releases.hunyuan import HUNYUAN_RELEASES, KANDINSKY_RELEASES, MOCHI_RELEASES
from tests.pipelines.releases.ltx import LTX_RELEASES
from tests.pipelines.releases.transformers import TRANSFORMER_RELEASES
from tests.pipelines.releases.unets import UNET_RELEASES
from tests.pipelines.releases.wan import SKYREELS_RELEASES, WAN_RELEASES

RELEASES: dict[str, Release] = {
    release.name: release
    for release in (
        *UNET_RELEASES,
        *WAN_RELEASES,
        *SKYREELS_RELEASES,
        *LTX_RELEASES,
        *COGVIDEOX_RELEASES,
        *COSMOS_RELEASES,
        *HUNYUAN_RELEASES,
        *KANDINSKY_RELEASES,
        *MOCHI_RELEASES,
        *TRANSFORMER_RELEASES,
    )
}
