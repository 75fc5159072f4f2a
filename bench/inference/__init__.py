"""Trained models on a person's own images: codes, reconstructions, scores, samples, ONNX."""
