"""The job queue: who runs what and when. What is true is in our own rows, never in a job's status."""
