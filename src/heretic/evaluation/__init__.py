"""The evaluation of candidates: scorers in the search, pruning, and held-out metrics at the end."""
