"""Finding a checkpoint and loading its model."""
