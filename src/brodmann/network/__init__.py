"""Network: a body of layers with a loss at the top."""

from .adjustable import routers
from .network import Network, check_network, copy_of

__all__ = ["Network", "check_network", "copy_of", "routers"]
