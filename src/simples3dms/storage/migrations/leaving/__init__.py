"""What is left to do until a store is left."""
