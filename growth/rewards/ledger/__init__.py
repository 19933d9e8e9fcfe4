"""The ledger: double entry over what shoppers hold in numbers: points, money to withdraw, growth value, cards.

A transfer moves an amount from one account to another: a shopper's, or the house's (`house/…`), which is where all
that shoppers have came from. So the sum over all accounts is zero, at any moment.

    transfer ──► posted
    transfer, pending ──► post (whole or in part) | void        each once

- Transfers are only ever added; a mistake is put right by another transfer. The id is the caller's: the same id moves
  once, however often it is asked for.
- A shopper's balance is `posted - pending_out`, and never below zero, unless the transfer says `may_owe`: a clawback
  of what was spent. Who owes gets nothing to spend until it is paid off by what comes in.
- Points lie in lots, each with its end; spent are those that end first. What is over is moved back to the house.
- The house's accounts are written by every transfer, so they are never waited for: moves are added, and folded later.
"""
