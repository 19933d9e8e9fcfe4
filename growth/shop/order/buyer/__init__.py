"""What the shop told of one shopper."""
