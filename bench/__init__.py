"""bench: the reference benchmark for image autoencoders."""

__version__ = "0.1.0"
