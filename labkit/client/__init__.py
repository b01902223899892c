"""What a customer does: place orders, send traffic and load."""
