"""The one training loop, and checkpoints to resume from."""
