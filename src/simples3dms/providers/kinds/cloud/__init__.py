"""The experimental kinds `gcs` and `azure`, by obstore alone: objects, listings, copies, no parts of ours."""
