"""The translator from Istio resources to Envoy resources, for labs without istiod."""

from labstack.istio.translate.resources import Resources
from labstack.istio.translate.translation import Translation, translate

__all__ = ["Resources", "Translation", "translate"]
