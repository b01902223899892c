"""The translator: Istio's YAML into Envoy's resources, for where no istiod runs."""

from labstack.mesh.translate.resources import Resources
from labstack.mesh.translate.translation import Translation, translate

__all__ = ["Resources", "Translation", "translate"]
