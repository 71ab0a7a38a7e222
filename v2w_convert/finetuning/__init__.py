"""Finetuning on action data, by diffusion forcing."""
