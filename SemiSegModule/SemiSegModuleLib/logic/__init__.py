"""What can be done, with or without a panel."""
