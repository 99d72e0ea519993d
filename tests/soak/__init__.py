"""Mixed use of one host process for a long time, with what it holds sampled: nothing may grow with the time."""
