"""The operator as a process of the tests' own: started, killed, and watched through a proxy that counts what it writes."""
