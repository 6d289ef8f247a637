"""The command line: host commands, and commands that speak HTTP through the client."""
