"""What the merchant's systems tell, a room for each system."""
