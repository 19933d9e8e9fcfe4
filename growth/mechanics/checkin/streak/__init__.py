"""A shopper's days and what follows from them: checking in, the page of a month, reminders.

`model.py` is the arithmetic of streaks. Checking in locks the shopper's row in `states`, folds in one day, gives what
it earns, and writes the day: its primary key has the last word. See the docstring of the room.
"""
