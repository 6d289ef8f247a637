"""The stretches of the catalogue that a migration's workers take one at a time."""
