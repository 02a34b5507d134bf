"""`cds-hooks review`: all that a plan does, on one page that a clinician can read and sign.

    page       the data structure that every format is written from
    words      plain words for what FHIR and CDS Hooks name
    reach      what rests on what: facts, value sets and parameters behind an expression
    register   the evidence register
    codes      value sets, orders, code replacements, parameters
    examples   the plan's own cases, played with a fixed clock
    rules      one rule with everything around it
    build      the whole page
    markdown   the Markdown of a card as HTML
    render     HTML and Markdown
"""
