"""What flash sales know of one shopper."""
