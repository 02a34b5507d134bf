"""What a call costs, measured against a bare Flask application on the same server, machine and minute.

`python -m bench` compares, `python -m bench.soak` keeps a mixed load on one server. Both need Linux (`/proc`).
"""
