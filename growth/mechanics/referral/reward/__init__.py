"""What inviters and invitees earn besides money: rewards for a valid invitee, milestones; and the counts of both.

    bound ──paid──▶ bought ──received──▶ valid: counted in the inviter's month and progress, rewards granted
                                          └──paid back whole, or another was first──▶ bound: counted back, revoked

Who was new when bound, which order is the first, and in which month it counts are looked up in the shop's facts as they
are now, whenever one of them is told: an order's, a registration, a merge. So the order of arrival decides none of it;
if the first order is lost, the next one that was kept is the first at once.

Counts move in the transaction of the order's fact, with the relation's state in the WHERE: each once, however often the
fact is told. A milestone is held while the count is at least its number; reached again after it was lost, it is granted
again under a key of its own. So is what is given for a first order that is found again.
"""
