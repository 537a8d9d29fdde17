"""From raw rows to a panel: the contract, the calendar, features, the simulated market."""
