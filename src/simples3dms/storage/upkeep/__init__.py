"""Upkeep: check the promises over the records and over every byte."""
