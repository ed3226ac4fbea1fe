"""What is learned of answers after they are given: feedback and labels."""
