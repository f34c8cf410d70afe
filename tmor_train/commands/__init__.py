"""The commands: each module adds its parsers (``add``) and does what they ask for."""
