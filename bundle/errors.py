"""The one exception that the command line turns into a sentence."""


class BundleError(Exception):
    """Something that the user can mend; its text is one sentence that says what and how."""
