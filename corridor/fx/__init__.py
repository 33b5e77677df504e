"""Foreign exchange: reference rates, offers of liquidity providers, and the quotes made of them."""
