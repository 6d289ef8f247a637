"""Key-encrypting keys: which one seals what is new, which rows name which, and the change from one to another."""
