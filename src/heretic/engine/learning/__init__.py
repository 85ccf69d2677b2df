"""Learning by gradient through the frozen model: rows, the differentiable forward, paths of edits."""
