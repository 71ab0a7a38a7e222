"""What computes the passes of a rollout: torch as it is, torch compiled, or onnxruntime."""
