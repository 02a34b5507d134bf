"""The cards: templates to cards, suggestions to actions, ordering, caps and suppression."""
