"""Network: a body of layers with a loss at the top."""

from .adjustable import routers
from .captured import Captured
from .network import Network, check_network, copy_of
from .parallel import Parallel

__all__ = ["Captured", "Network", "Parallel", "check_network", "copy_of", "routers"]
