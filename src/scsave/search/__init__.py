"""Searches over settings: where a study is kept, and what it tries next."""
