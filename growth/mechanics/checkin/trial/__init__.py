"""What a check-in would get, and why, at a moment of an operator's choice. Nothing is changed."""
