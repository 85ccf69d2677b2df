"""The search loop, and who measures its candidates."""
