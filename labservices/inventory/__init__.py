"""The inventory service: reserves goods for orders."""

from labservices.inventory.api import make_router
from labservices.inventory.handlers import HANDLERS
from labservices.inventory.opening import load_opening_data
from labservices.inventory.tables import metadata
from labservices.service import Service

service = Service("inventory", metadata, load_opening_data, HANDLERS, make_router)
