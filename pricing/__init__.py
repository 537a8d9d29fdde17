"""The library: what stays true without Flask, a scheduler or a clock."""

__version__ = "0.2.0"
