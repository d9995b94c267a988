"""What the router adds in front of a real vLLM, as vLLM's own load client sees it."""
