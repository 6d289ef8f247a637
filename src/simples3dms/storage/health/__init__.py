"""Health: what is not as it is to be, by name, and the numbers behind it."""
