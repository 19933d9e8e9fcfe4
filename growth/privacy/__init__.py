"""Privacy: tells all that is known of a shopper (personal data export), erases it, and makes two ids one.

Each room declares what it knows of a shopper (`Person`); one transaction walks all of them, everywhere or not at all.
"""
