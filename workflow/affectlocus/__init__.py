"""affectlocus: where in a network a fine-tune landed, and whether that place makes it work."""

__version__ = "0.1.0"
