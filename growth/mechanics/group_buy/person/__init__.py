"""What group buys know of one shopper."""
