"""What several jobs do on their way: read sales, carry a state, put a version in force."""
