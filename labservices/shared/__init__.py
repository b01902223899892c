"""What the four services share: each idea stands here once."""
