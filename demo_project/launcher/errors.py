"""What can go wrong while the demo starts or runs."""


class DemoError(Exception):
    """The text says what is wrong and what helps; no traceback is needed."""


class StopRequested(BaseException):
    """SIGINT or SIGTERM came. Not an Exception, so that nothing on the way swallows it."""
