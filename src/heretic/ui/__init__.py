"""All that a person sees and answers; the rest of the program knows only `events`."""
