"""How seats are left and teams end, one or a thousand at once: set by set, each paid seat with a refund of its own.

A team ends by one statement that asks for `forming`: of expiry, completion and an operator, one comes first.
"""
