"""Months, quarters and spans of days."""
