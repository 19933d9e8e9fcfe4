"""What an inviter sees: code, terms, totals, invitees, milestones, and the place among other inviters.

Read from counts that the other rooms keep (`inviters`, `progress`, `inviter_months`), not from relations: asking costs
the same whatever the number of invitees. Other people are shown masked.
"""
