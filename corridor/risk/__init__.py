"""Risk, first cut: limits, velocity and country rules as dated data, and a decision that gives its reasons."""
