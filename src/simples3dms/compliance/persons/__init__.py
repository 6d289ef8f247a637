"""One person: what is held about them, and how they are forgotten."""
