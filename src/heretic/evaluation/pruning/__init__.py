"""Which candidates are dominated, learned from those that were fully evaluated."""
