"""Persons: one lock a shopper, and one table of ids that changed hands.

Two acts make an id somebody else's: a merge (the id is its survivor from then on) and an erasure (the id is nobody's;
told of again, it is a new person). Whatever writes by a shopper's id shares the shopper's lock; a merge and an erasure
hold it alone. So one waits for the other, and what was decided about an id is still true when it is committed.

    current ──merge──▶ former (leads to its survivor)
       │  ▲
     erase │ told of again
       ▼  │
     erased (leads nowhere)

The lock is an advisory lock of Postgres, of one transaction, and is sent with BEGIN: `Database.transaction(people=…)`.
There are `STRIPES` of them, and an id belongs to one by its hash, so that no batch can fill Postgres' table of locks.
Locks of shoppers come before every other lock. Who learns only on the way whose ids it writes by (readers of events,
what the clock does, what operators do to a row) shares the lock of `everyone` instead, which a merge and an erasure
hold alone too: for as long as it runs, nobody changes hands, so that what it reads of ids is true.

Each process remembers which ids changed hands (`memory.py`), at most `POLL_SECONDS` old, so that a token costs no look
at Postgres; what it does not know yet, Postgres tells it when it shares the lock.

Of an erased id it is remembered what it had of what is given once (`People.had`), so that coming back gives nothing
twice; and what derives from a name derives from the life that it leads (`People.life`).

Ids, and what they had, are kept as hashes under a secret of this database: a dump of the table alone names nobody.
"""
