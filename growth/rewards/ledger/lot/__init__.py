"""Lots: the points of one transfer, with their end. Spent are those that end first; what is over goes to the house."""
