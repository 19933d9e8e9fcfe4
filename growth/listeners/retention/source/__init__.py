"""Where shoppers come from, in the shop's own words: which sources are counted each by itself.

::

    new ──▶ has a number ──▶ gives way to a new one, while few came from it ──▶ among the others

So names that anybody can make up, by a link, take no number for ever; who came from one that gave way stays with the
others, and it may have a number again.
"""
