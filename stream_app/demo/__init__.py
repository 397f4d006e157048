"""`make run`: a broker, a worker, simulated traffic, and a view of what they do."""
