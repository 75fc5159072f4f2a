"""The one training loop, and where a stopped one goes on."""
