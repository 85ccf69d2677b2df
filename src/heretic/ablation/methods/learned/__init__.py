"""The method `learned`: directions and strengths found by gradient."""
