"""Steps that the commands share: preparing a model, opening or starting a study, saving a trial."""
