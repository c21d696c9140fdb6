"""What the control plane and the data plane agree on: names, configuration, results, exit codes.

Standard library only, so that the operator can import it without a single data-science package and a user's
own training image can read it as the specification of what it must do.
"""
