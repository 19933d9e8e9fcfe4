"""Review: which commissions a person looks at before they become available.

Pure rules over facts: where inviter and invitee registered from, where their money goes, and how fast the inviter's
invitees came. What they find is a list of typed reasons; the commission waits in `review` until an operator releases or
voids it, with a typed reason too. Nothing is voided by a rule.
"""
