"""Ways of editing, one a folder: what a candidate's parameters are, where they come from and which edit they give."""
