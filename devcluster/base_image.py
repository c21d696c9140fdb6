"""stub"""


def ensure_base_image() -> str:
    return ""
