"""A checkpoint's own encoders: of a prompt and of a picture, called as its pipeline in diffusers calls them."""
