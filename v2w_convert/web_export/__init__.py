"""A world as a static folder that runs in the visitor's own browser, by onnxruntime-web."""
