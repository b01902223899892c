"""The shipping service: schedules carriers for the goods of orders."""

from labservices.service import Service
from labservices.shipping.api import make_router
from labservices.shipping.handlers import HANDLERS
from labservices.shipping.opening import load_opening_data
from labservices.shipping.tables import metadata

service = Service("shipping", metadata, load_opening_data, HANDLERS, make_router)
