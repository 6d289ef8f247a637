"""The narrow waist: one interface to any object store, its layers, its kinds and their conformance suite."""
