"""A plain question on a terminal."""


def yes_no(question: str) -> bool:
    """Whether the answer is yes; Enter, Escape and Ctrl+C are no."""
    import questionary

    from .menus import ask

    return bool(ask(questionary.confirm(question, default=False)))
