"""The main job, stage by stage (docs/architecture.md)."""
