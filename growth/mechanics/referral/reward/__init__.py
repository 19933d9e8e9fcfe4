"""What inviters and invitees earn besides money: rewards for a valid invitee, milestones; and the counts of both.

    bound ──paid──▶ bought ──received──▶ valid: counted in the inviter's month and progress, rewards granted
                                          └──paid back whole──▶ bound: counted back, rewards revoked

Counts move in the transaction of the order's fact, with the relation's state in the WHERE: each once, however often the
fact is told. A milestone is held while the count is at least its number; reached again after it was lost, it is granted
again under a key of its own.
"""
