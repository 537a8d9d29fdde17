"""Steps that several jobs take on their way: read sales, carry a state, put a version in force."""
