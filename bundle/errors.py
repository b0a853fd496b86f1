"""The one exception that the command line turns into a sentence."""


class BundleError(Exception):
    """Something that the user can mend; its text is one sentence that says what and how."""


def sentence(error: OSError) -> str:
    """What the operating system refused, as a command says it."""
    what = error.strerror or str(error)
    return f"{f'{error.filename}: ' if error.filename else ''}{what}; mend that, then run it again"
