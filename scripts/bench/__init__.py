"""Benches: what the service costs on this machine, beside bare servers on the same core. They are not in the wheel.

`kit` is what they are made of, `stack` what they measure: a service on servers of its own in a scratch folder. They
know rooms from inside, because they write rows by the million that no shopper could make in time.
"""
