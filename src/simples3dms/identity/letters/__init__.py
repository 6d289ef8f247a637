"""Letters that are owed: recorded with the change that owes them, written and sent by workers."""
