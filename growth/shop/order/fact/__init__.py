"""One fact of an order: added to what is known of it, and told of once."""
