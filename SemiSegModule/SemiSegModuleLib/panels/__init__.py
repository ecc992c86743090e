"""What is seen of it: each panel shows state and forwards clicks (Qt)."""
