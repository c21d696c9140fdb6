"""The data plane: what runs inside the trainer, server and monitor pods."""

__version__ = "0.1.0"
