"""Corrections: what operators do to relations by hand, and what becomes of them when two ids are one person's.

    current ──end(reason)──▶ over, not current: orders paid from then on earn nothing, what was earned stays
    anybody ──rebind──▶ bound to the inviter named, newcomer or not; never to oneself, never in a ring

All under the lock of relations, all audited. What is kept and what goes in a merge: the earlier relation stays, unless
it would close a ring; of two first orders the earlier; of two milestones one.
"""
