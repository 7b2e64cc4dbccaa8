"""The one exception for mistakes of the user: printed as a single line, exit code 2, no traceback."""


class UserError(Exception):
    """What is wrong, where, and what to do, in one line."""

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))
