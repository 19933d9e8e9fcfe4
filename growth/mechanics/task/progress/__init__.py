"""What counts, for whom, and what follows: progress, rewards, and taking them back."""
