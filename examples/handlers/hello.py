"""A first handler: it takes the body of a message, and returning acknowledges it."""


def hello(message: str) -> None:
    """Greet whom the message names."""
    print(f"hello, {message}", flush=True)
