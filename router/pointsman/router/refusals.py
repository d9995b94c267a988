"""Why a request is refused before it is placed. The message is for the person who sent it."""


class RefusalError(Exception):
    """A request that will not be served. `status` is the HTTP status of the answer."""

    status = 400


class BadRequestError(RefusalError):
    """The request itself is wrong; `path` says where, as in `messages[0].role` or `x-priority`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class UnauthorizedError(RefusalError):
    """No key, or none that is known."""

    status = 401


class ForbiddenError(RefusalError):
    """Known, but without the right."""

    status = 403
