"""Password resets: a new password for whoever holds a link, once and for a short time."""
