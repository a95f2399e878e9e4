"""IFANP on the embedded 8x8 digits: no download, two minutes on two CPU cores."""

from configs import default


def get_config():
    """Returns the defaults."""
    return default.get_config()
