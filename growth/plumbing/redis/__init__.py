"""Redis: the client, and Lua scripts as functions."""
