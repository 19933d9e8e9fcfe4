"""Commissions as people read them: pages, sums and histories. Decides nothing."""
