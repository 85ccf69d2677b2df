"""What is measured of a candidate, one scorer a file."""
