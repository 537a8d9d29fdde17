"""Describe versions and sales for people: plots, pages and cards. None of them may cost a version."""
