"""The streamed step as an ONNX graph, and its use without torch models."""
