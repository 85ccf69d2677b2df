"""What is shown of a run beyond its figures: how residuals lie, and what the model said."""
