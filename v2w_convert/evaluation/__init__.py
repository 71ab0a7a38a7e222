"""Rollouts as videos, and figures of a world model: by horizon, of action following, of long-horizon stability."""
