"""Floor 0, words: what every floor above speaks. No I/O, no clock, nothing from third parties but msgspec."""
