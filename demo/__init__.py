"""The demo: a model that notices a changed scanner and heals itself, on a real cluster."""
