"""Identity: users, members, tokens; who is asking, and what they may do."""
