"""Parts of large copies that have arrived: what the next attempt need not send again."""
