"""placeholder"""


def apply(name: str) -> None:
    raise KeyError(name)
