"""What the commands share: a model made ready, a study opened or begun, a trial saved."""
