"""Files laid out as nobody foresaw: each is read right, or refused in one line that says what and what to do."""
