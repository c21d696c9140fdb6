"""Another model server in the pod: it gets the verified version, and our server stands before it as a proxy."""
