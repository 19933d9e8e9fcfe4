"""Floor 4, listeners: rooms that only listen. They hear of what happened as events, and nobody waits for them."""
