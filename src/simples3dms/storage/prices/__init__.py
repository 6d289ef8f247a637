"""What stores cost: dated price lists, and estimates made from them. Pure: no row is read here."""
