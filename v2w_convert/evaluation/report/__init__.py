"""What `evaluate` writes into a folder: a page, videos, frames, figures."""
