"""What knows transformers: loading, sites, chat templates, hooks."""
