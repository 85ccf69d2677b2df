"""The cost of an edit in other abilities: tasks of lm-evaluation-harness, on the baseline and on trials."""
