"""The pricing library: sales data, demand, price decisions, model registry. Needs no web server or scheduler."""

__version__ = "0.2.0"
