"""Pure decisions: values in, plan out. No I/O, no clock, no logging, no globals."""
