"""Coupons (优惠券): a promise of so much off, to one shopper, until a certain day.

The template, as operators run it (the room `template/`)::

    draft ──publish──▶ published ⇄ paused
                           │          │
                           └──end─────┴──▶ ended        (by an operator, or when none of its coupons could be valid)

The promise (discount, threshold, scope, validity, what follows a refund) is fixed once published; so the terms of issue
are those of the template, for every coupon of it. Changed may be: title, quota, limits, window, who may take one.

A coupon::

    taken │ code │ granted
             ▼
          issued ──an order is placed, or paid──▶ locked ──its order is paid──▶ used
             │  ▲                                    │                            │
             │  └──── closed unpaid ─────────────────┴──── refunded whole ────────┘
             │            (expired instead if its end has passed; voided instead if it was taken back meanwhile;
             │             so it goes too where nothing more is heard of the order for `coupon_lock_days`)
             ├──its end has passed──▶ expired ──an order placed before its end, or paid, is heard of──▶ locked, used
             └──taken back──────────▶ voided

Who decides: Postgres. A coupon has one `order_id`, and each step is one statement with the old state in its WHERE: of
any number of orders one gets it, the others hear `coupon.of_other_order`. Takes lock their template and then raise its
counters under `issued + codes_left + n <= units_total`, the day's quota and the shopper's own limits, in the statement
that inserts. Grants of campaigns do not ask whether shoppers may take it themselves, nor count in their limits:
campaigns have budgets. The quota binds everybody, and printed codes have their units kept from the day they are made.

An order that lost its coupon by waiting takes it again with its payment, if it still can be had. It locks it no second
time: that is `rejected`, `coupon.lock_lapsed`.

What an order pays with a coupon that it cannot have (another order's, another shopper's, one taken back) is owed back
to the shopper by a row and an event, once: the discount is what cannot be given. An order that is still to be paid is
`rejected` instead. A coupon whose end passed is no reason to pay back: the shop set the price and took the money, so
the coupon counts as used. What a line costs is the shop's to decide; `quote/` says what each coupon would take off.

What must hold is in `invariants.sql`.
"""
