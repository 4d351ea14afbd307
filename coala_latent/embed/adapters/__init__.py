"""The library's models behind other projects' interfaces: HEAR, X-ARES, ONNX."""
