"""Doorbells: plain values in, one verb called."""
