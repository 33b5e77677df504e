"""The processes that run workflows, activities and the relay, and the composition root that wires them."""
