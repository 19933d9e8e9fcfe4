"""When, and from where, the shop registered its shoppers: of several tellings the earliest."""
