"""The payment service: captures money for orders."""

from labservices.payment.api import make_router
from labservices.payment.handlers import HANDLERS
from labservices.payment.opening import load_opening_data
from labservices.payment.tables import metadata
from labservices.service import Service

service = Service("payment", metadata, load_opening_data, HANDLERS, make_router)
