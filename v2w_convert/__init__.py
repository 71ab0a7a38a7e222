"""Turn a pretrained video diffusion model into a world model."""
