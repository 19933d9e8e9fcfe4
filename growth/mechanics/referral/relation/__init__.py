"""Relations: who brought whom. Codes, binding, ending; first touch wins, and no ring is ever made.

    (none) ──PUT inviter │ operator──▶ current ──ends_at │ ended_at──▶ over ──bound again──▶ past (not current)

Who decides: Postgres. UNIQUE (invitee) WHERE current lets one relation be, CHECK refuses oneself, and rings are refused
by looking up the inviter's line under a lock that every writer of relations takes. Only who already brought somebody
can close a ring, so for nearly everybody the look ends at once.
"""
