"""The report of a study: text, tables, charts, examples, the geometry of residuals."""
