"""Every way to set a pipeline up, by the name that releases give."""

from tests.pipelines.stages import cogvideox, cosmos, hunyuan, ltx, transformers, unets, wan
from tests.pipelines.stages.stage import Builder

STAGES: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        wan.wan,
        wan.wan_image,
        wan.wan_first_frame,
        wan.skyreels,
        wan.skyreels_image,
        wan.skyreels_forcing,
        ltx.ltx,
        ltx.ltx_first_frame,
        ltx.ltx_condition,
        cogvideox.cogvideox,
        cogvideox.cogvideox_image,
        cosmos.cosmos,
        cosmos.cosmos_video,
        hunyuan.hunyuan,
        hunyuan.hunyuan_image,
        hunyuan.hunyuan15,
        hunyuan.hunyuan15_image,
        hunyuan.kandinsky,
        hunyuan.kandinsky_image,
        hunyuan.mochi,
        transformers.sana,
        transformers.sana_first_frame,
        transformers.easyanimate,
        transformers.easyanimate_image,
        transformers.latte,
        transformers.allegro,
        unets.svd,
        unets.modelscope,
        unets.i2vgen,
        unets.animatediff,
    )
}
