"""What each event was answered, so that a shop that tells it again is answered alike."""
