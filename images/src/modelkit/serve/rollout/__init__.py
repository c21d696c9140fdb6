"""How a pod shares its requests with the pods of another version while versions change (see contract.route).

::

    RouteFile ── rules ──► Follower ── while a rule is in effect ──► Router ──► the other version's pods
                              │                                        │
                              └──── report, /metrics ◄── Measurement ◄─┘

The other version never harms a client: whatever it does, this one answers.
"""
