"""Scorers: each measures one metric of a candidate."""
