"""What every test of the module gets."""

from tests.support.module_fixtures import (  # noqa: F401 - fixtures
    allow_outside_the_catalogue,
    allow_swallowed,
    outside_the_catalogue,
    own_state,
    swallowed,
)
from tests.support.tls_fixtures import authority, connect, stranger  # noqa: F401 - fixtures
