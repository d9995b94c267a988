"""The router's own watch of ModelServices and engine pods: nothing but the API server stands between them."""
