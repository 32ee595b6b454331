"""A simulated site: months of sessions as the application would have recorded them, and servers that take them."""
