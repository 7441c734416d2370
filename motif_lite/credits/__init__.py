"""Credits: which rounds are trained, and with which advantage."""
