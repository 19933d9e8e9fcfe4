"""All SQL of the room, one noun a file."""
