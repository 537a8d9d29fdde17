"""The HTTP service: answers price requests with the champion version."""
