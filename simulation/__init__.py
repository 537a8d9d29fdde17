"""Markets with known truth that are unlike the default one of `pricing.data.market`, and satisfy the same protocol."""
