"""The translator from Istio resources to Envoy resources, for labs without istiod."""

from labstack.mesh.translate.resources import Resources
from labstack.mesh.translate.translation import Translation, translate

__all__ = ["Resources", "Translation", "translate"]
