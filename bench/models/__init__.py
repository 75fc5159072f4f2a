"""The variants: `zoo` holds MODELS, the other files one family of networks each."""
