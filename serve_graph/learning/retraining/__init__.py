"""What served traffic is for the next version: its outcomes, and what a candidate would have made of it."""
