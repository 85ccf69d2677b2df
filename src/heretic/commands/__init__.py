"""One module a command, named like it: each takes settings and returns what happened."""
