"""Mutation check of the content: does some case notice when a condition, code, parameter or suggestion is changed?

`python -m mutation` makes one small change to a plan at a time, in memory, and plays the plan's cases on it. A change
that no case notices survives; each survivor needs a reason in `plans/<plan>/mutation-survivors.yaml`.
"""
