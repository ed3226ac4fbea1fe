"""What helps where grades are few: votes, and what is known of other models."""
