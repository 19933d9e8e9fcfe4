"""What Redis holds of a sale by shoppers' names, compared with Postgres again and again: telling it once is not enough.

Who holds units and who stands in the list of winners; who is invited; who is kept out until when.
"""
