"""A search's record: sampler, journal on disk, Pareto front. It does not depend on models."""
