"""Programs that run inside engine pods, where nothing of Pointsman is installed: they are sent as text."""
