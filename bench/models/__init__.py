"""The variants: MODELS in `zoo` is the cast, one file a family beside it."""
