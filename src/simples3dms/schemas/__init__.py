"""Request and response models, shared by the HTTP API and its client."""
