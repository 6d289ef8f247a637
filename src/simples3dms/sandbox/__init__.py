"""Local stand-ins for the outside world: an S3 server, a B2 server, files to try things on."""
