"""Work in the background gives way to people: how much of it may run while they read."""
