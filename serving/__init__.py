"""The program that answers requests."""
