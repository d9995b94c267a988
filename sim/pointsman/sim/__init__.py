"""The engine loop, workloads and reports on a virtual clock. No asyncio."""
