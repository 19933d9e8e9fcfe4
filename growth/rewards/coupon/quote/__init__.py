"""Quotes: what each of a shopper's coupons would take off a cart. The shop sets the price; this helps to show it."""
