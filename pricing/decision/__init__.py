"""Which price to ask: strategies, guardrails, stock, confidence, cold start, the log's schema."""
