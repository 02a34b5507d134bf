"""What users made of the cards: for people who decide which cards stay on.

    figures   counts to rows: rates, and whether a target is met
    text      the rows as a table for a terminal, and as CSV
    page      the rows as a page with a chart, in one file
"""
