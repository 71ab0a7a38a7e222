"""Which pipelines of diffusers have encoders, and which condition of a plan each of their results is."""

_TEXT = ("text",)
_TEXT_AND_MASK = ("text", "text_mask")
_HUNYUAN_15 = ("text", "text_mask", "text_2", "text_mask_2")

PROMPTS: dict[str, tuple[str, ...]] = {
    "AllegroPipeline": _TEXT_AND_MASK,
    "AnimateDiffPipeline": _TEXT,
    "AnimateDiffVideoToVideoPipeline": _TEXT,
    "CogVideoXPipeline": _TEXT,
    "CogVideoXImageToVideoPipeline": _TEXT,
    "CogVideoXVideoToVideoPipeline": _TEXT,
    "CosmosTextToWorldPipeline": _TEXT,
    "CosmosVideoToWorldPipeline": _TEXT,
    "Cosmos2VideoToWorldPipeline": _TEXT,
    "EasyAnimatePipeline": _TEXT,
    "EasyAnimateInpaintPipeline": _TEXT,
    "HunyuanVideoPipeline": ("text", "pooled_text", "text_mask"),
    "HunyuanVideo15Pipeline": _HUNYUAN_15,
    "HunyuanVideo15ImageToVideoPipeline": _HUNYUAN_15,
    "I2VGenXLPipeline": _TEXT,
    "Kandinsky5T2VPipeline": ("text", "pooled_text"),
    "Kandinsky5I2VPipeline": ("text", "pooled_text"),
    "LattePipeline": _TEXT,
    "LTXPipeline": _TEXT_AND_MASK,
    "LTXImageToVideoPipeline": _TEXT_AND_MASK,
    "LTXConditionPipeline": _TEXT_AND_MASK,
    "MochiPipeline": _TEXT_AND_MASK,
    "SanaVideoPipeline": _TEXT_AND_MASK,
    "SanaImageToVideoPipeline": _TEXT_AND_MASK,
    "SkyReelsV2Pipeline": _TEXT,
    "SkyReelsV2ImageToVideoPipeline": _TEXT,
    "SkyReelsV2DiffusionForcingPipeline": _TEXT,
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": _TEXT,
    "TextToVideoSDPipeline": _TEXT,
    "VideoToVideoSDPipeline": _TEXT,
    "WanPipeline": _TEXT,
    "WanImageToVideoPipeline": _TEXT,
    "WanVideoToVideoPipeline": _TEXT,
}
"""Pipeline -> conditions that its `encode_prompt` returns, in that order; what it returns after them is of the
negative prompt."""

PICTURES: dict[str, tuple[str, str]] = {
    "HunyuanVideo15ImageToVideoPipeline": ("encode_image", "image_embeds"),
    "I2VGenXLPipeline": ("_encode_image", "image_embeds"),
    "SkyReelsV2ImageToVideoPipeline": ("encode_image", "image_embeds"),
    "StableVideoDiffusionPipeline": ("_encode_image", "text"),
    "WanImageToVideoPipeline": ("encode_image", "image_embeds"),
}
"""Pipeline -> its method that embeds a picture, and the condition that the embedding is."""

NO_PROMPT = "its pipeline takes no prompt"
REASONS: dict[str, str] = {
    "HunyuanVideoImageToVideoPipeline": "its encoder reads a prompt together with a picture",
    "Cosmos2_5_PredictBasePipeline": "its prompt encoder is a chat model, with a template of its own",
    "StableVideoDiffusionPipeline": NO_PROMPT,
    "DynamiCrafterPipeline": "diffusers has no pipeline of it; it is given the prompt that is stored",
    "Vid2WorldPipeline": "diffusers has no pipeline of it; it is given the prompt that is stored",
}
"""Why prompts of a pipeline are not encoded."""

ENCODERS = frozenset(
    {
        "BertModel",
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "CLIPVisionModel",
        "CLIPVisionModelWithProjection",
        "Gemma2ForCausalLM",
        "Gemma2Model",
        "LlamaModel",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5_VLTextModel",
        "SiglipVisionModel",
        "T5EncoderModel",
        "UMT5EncoderModel",
    }
)
"""Classes of transformers that encode a prompt or a picture for these pipelines."""

TOKENIZERS = frozenset(
    {
        "BertTokenizer",
        "BertTokenizerFast",
        "ByT5Tokenizer",
        "CLIPFeatureExtractor",
        "CLIPImageProcessor",
        "CLIPImageProcessorFast",
        "CLIPImageProcessorPil",
        "CLIPProcessor",
        "CLIPTokenizer",
        "CLIPTokenizerFast",
        "GemmaTokenizer",
        "GemmaTokenizerFast",
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "PreTrainedTokenizerFast",
        "Qwen2Tokenizer",
        "Qwen2TokenizerFast",
        "Qwen2VLProcessor",
        "Qwen2_5_VLProcessor",
        "SiglipImageProcessor",
        "SiglipImageProcessorFast",
        "SiglipImageProcessorPil",
        "T5Tokenizer",
        "T5TokenizerFast",
        "TokenizersBackend",
    }
)
"""Classes of transformers that prepare a prompt or a picture for them."""
