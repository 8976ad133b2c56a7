"""The demo: the whole daemon on real past prices, a simulated venue, and a household around it."""
