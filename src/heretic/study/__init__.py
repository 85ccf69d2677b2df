"""The search: its space, its sampler, its journal on disk, its Pareto front. Knows nothing of models."""
