"""Activities: what shoppers do, as their clients and the shop tell it, in one log that other rooms follow.

    told ──▶ rejected (with a code; its neighbours are not)
      │
      └────▶ in the log ──▶ read by each follower, once, in the order of commits ──▶ gone with its day

An activity is named by its shopper, its id and the UTC day of its `at`: told again, by any number of retries and
processes, it counts once (deduplication), for as long as its day is kept. Nothing is acknowledged before it is
committed. A client names neither shopper nor time of arrival; what it says of time is bounded both ways.

Invariants: one row for one name; the day of a row is the day of its `at`; no day is dropped before every follower has
passed it.
"""
