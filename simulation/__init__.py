"""Simulated markets with known demand, to evaluate pricing policies: a default family and a second, different one."""
