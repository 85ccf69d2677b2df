"""The method `kernel`: one direction, ablated with a strength that depends on layer and component."""
