"""The code that depends on transformers: loading, sites, chat templates, hooks."""
