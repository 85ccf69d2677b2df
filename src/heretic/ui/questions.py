"""A plain question on a terminal."""


def yes_no(question: str) -> bool:
    """Whether the answer is yes; Enter, Escape and Ctrl+C are no."""
    import questionary

    return bool(questionary.confirm(question, default=False).ask(kbi_msg=""))
