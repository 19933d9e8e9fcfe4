"""The new-shopper pack (新人礼包): several rewards for whoever registers, once a person.

    shop.shopper_registered ──▶ given, once          (off, registered long ago, or had it before ──▶ nothing)

The row in `recipients` is what makes it once: it is written in the transaction of the grants, under the shopper's id,
whatever the pack is then and whatever it is changed to later. Two ids that become one person have one pack from then
on: the old id is marked, so that a registration told late brings no second one. Rewards go through `granting`, with
keys of the shopper's own, and its budget: near the end of that, a pack may be given in part.
"""
