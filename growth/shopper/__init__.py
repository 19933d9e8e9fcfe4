"""Who somebody is and what they did."""
