"""The routes of the service: pricing, explain and simulate, catalogue, health."""
