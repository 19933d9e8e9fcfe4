"""Periods in numbers, and forgetting those that are long over without losing their numbers."""
