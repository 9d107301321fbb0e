"""Which bits each layer or row gets: what a choice loses, what it costs, and who chooses."""
