"""Two fake liquidity providers that quote around the ECB reference, over books of their own."""
