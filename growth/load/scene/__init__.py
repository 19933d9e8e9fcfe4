"""Scenes: loads other than the spike, each of one evening's kind, played open loop and judged by laws of their own."""
