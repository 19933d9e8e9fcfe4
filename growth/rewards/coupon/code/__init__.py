"""Printed codes: an operator makes a batch for print, and whoever types one in has the coupon, once.

    made ──redeemed──▶ a coupon          (made ──its batch is revoked──▶ worth nothing)

A code is 16 characters of an alphabet without look-alikes: 80 random bits. That is more than guessing needs to be kept
out (each shopper has some ten tries a minute), because only hashes are kept: whoever reads the database, a backup of
it or an operator's screen later finds no code, and 80 bits are too many to try even so. Therefore the codes are in the
answer to the call that makes them, and nowhere after. A lost answer costs a batch: revoke it, its units are free again.

A batch has its units kept from the quota from the day it is made: what is printed is promised. A code that does not
exist, is spelled wrong, was revoked or was redeemed by somebody else is answered alike.
"""
