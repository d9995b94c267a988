"""KV between instances: offers and claims on a side channel, and the three protocols that routers speak over it."""
